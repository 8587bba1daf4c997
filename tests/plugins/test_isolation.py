"""A broken plugin costs only itself, and says what is wrong with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from command_line import call, start
from ctxrep_adapters import flux_kontext
from ctxrep_plugins import bench
from plugging import OURS, Even, Install, Plugin, Shuffle, found, listed, model, plugin

from ctxrep_edit import (
    Adapter,
    BrokenPlugin,
    Check,
    EmbeddedModel,
    Embedder,
    Exporter,
    ModelError,
    PluginError,
    Strategy,
    diverse_edit,
    hookimpl,
    load_pipeline,
)
from ctxrep_edit.plugins import catalog


def raising(*_: Any) -> Any:
    raise ZeroDivisionError("division by zero")


def named(function: Any, name: str) -> Any:
    function.__name__ = name
    return hookimpl(function)


def later() -> Iterator[Any]:
    yield Shuffle()
    raising()


def unknown_argument(nonsense: int) -> list[EmbeddedModel]:
    return []


@hookimpl(wrapper=True)
def wrapper() -> Any:
    return (yield)


class Nameless(Strategy):
    summary = ""

    def sample(self, run: Any) -> Any:
        return run.call()


class Unnamed(Nameless):
    name = ""


class Halves(flux_kontext.FluxKontext):
    name = "halves"
    pipelines = "HalvesPipeline"  # type: ignore[assignment]


class Whole(flux_kontext.FluxKontext):
    name = "whole"
    pipelines = ("WholePipeline",)


class Part(Whole):
    name = "part"


class Loose(Adapter):
    name = "loose"

    def size(self, pipeline: Any, width: int, height: int) -> tuple[int, int]:
        return width, height

    def arguments(self, pipeline: Any, request: Any) -> dict[str, Any]:
        return {}


strategies = [Shuffle()]
signature = """PluginValidationError: Plugin 'theirs' for hook 'ctxrep_models'
hookimpl definition: ctxrep_models(nonsense: 'int') -> 'list[EmbeddedModel]'
Argument(s) {'nonsense'} are declared in the hookimpl but can not be found in the hookspec"""
BROKEN = {  # the plugin, or what its import raises; its error
    "not there": (None, "ModuleNotFoundError: No module named 'their'"),
    "import raises": (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
    "import exits": (SystemExit("no licence"), "SystemExit: no licence"),
    "unknown hook": (
        plugin(ctxrep_nonsense=lambda: None),
        "PluginValidationError: unknown hook 'ctxrep_nonsense' in plugin <a plugin>",
    ),
    "unknown argument": (Plugin(ctxrep_models=named(unknown_argument, "ctxrep_models")), signature),
    "no hook": (plugin(strategy=Shuffle()), "It has no hook: decorate its functions with ctxrep_edit.hookimpl"),
    "wrapper": (
        Plugin(ctxrep_models=wrapper),
        "It wraps the hooks of others, which is not possible here: leave wrapper=True out",
    ),
    "newer": (
        plugin(ctxrep_api="1.7", ctxrep_strategies=lambda: strategies),
        "It needs API 1.7 and this ctxrep-edit has 1.0: pip install -U ctxrep-edit",
    ),
    "older": (
        plugin(ctxrep_api="0.9", ctxrep_strategies=lambda: strategies),
        "It was written for API 0.9 and this ctxrep-edit has 1.0",
    ),
    "version": (
        plugin(ctxrep_api="new", ctxrep_strategies=lambda: strategies),
        "Its ctxrep_api is 'new', but must be major.minor, such as '1.0'",
    ),
    "raises": (
        plugin(ctxrep_strategies=raising),
        "It raised in ctxrep_strategies. ZeroDivisionError: division by zero",
    ),
    "raises later": (
        plugin(ctxrep_strategies=later),
        "It raised in ctxrep_strategies. ZeroDivisionError: division by zero",
    ),
    "no list": (
        plugin(ctxrep_strategies=lambda: Shuffle()),
        "Its ctxrep_strategies gives <shuffle> instead of a list",
    ),
    "nothing": (plugin(ctxrep_strategies=lambda: None), "Its ctxrep_strategies gives None instead of a list"),
    "no strategy": (
        plugin(ctxrep_strategies=lambda: ["shuffle"]),
        "Its ctxrep_strategies gives 'shuffle', which is no instance of Strategy",
    ),
    "no name": (
        plugin(ctxrep_strategies=lambda: [Nameless()]),
        "Its ctxrep_strategies gives a Nameless that has no name",
    ),
    "empty name": (
        plugin(ctxrep_strategies=lambda: [Unnamed()]),
        "Its ctxrep_strategies gives a Unnamed called ''",
    ),
    "one name twice": (
        plugin(ctxrep_strategies=lambda: [Shuffle(), Shuffle()]),
        "Its ctxrep_strategies gives two that are called shuffle",
    ),
    "half an adapter": (
        plugin(ctxrep_adapters=lambda: [Loose()]),
        "Its ctxrep_adapters gives a Loose that has no pipelines",
    ),
    "a string of pipelines": (
        plugin(ctxrep_adapters=lambda: [Halves()]),
        "Its adapter halves has the pipelines 'HalvesPipeline': write a tuple of names",
    ),
    "one class twice": (
        plugin(ctxrep_adapters=lambda: [Whole(), Part()]),
        "Its ctxrep_adapters gives two that drive WholePipeline",
    ),
}


def left_out(cause: str) -> str:
    """The warning, or in strict mode the error."""
    return (
        f"The plugin theirs (theirs-dist 1.2) is left out. {cause}. Update or uninstall it, or switch it off with "
        "CTXREP_EDIT_PLUGINS=-theirs."
    )


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_plugin_costs_only_itself(install: Install, kind: str) -> None:
    thing, cause = BROKEN[kind]
    entries = (*OURS, found("theirs", thing), found("hello", plugin(ctxrep_strategies=lambda: [Shuffle()])))

    def everything() -> tuple[set[str], set[str]]:
        return set(catalog.STRATEGIES.all()), set(catalog.pipelines())

    rest = ({"contextual", "shuffle"}, {"FluxKontextPipeline", "FluxKontextInpaintPipeline"})
    install(*entries)
    with pytest.warns(BrokenPlugin) as caught:
        assert everything() == rest
    assert [str(warning.message) for warning in caught] == [left_out(cause)]
    entry = listed()["theirs"]
    assert (entry["status"], entry["error"], entry["provides"]) == ("broken", cause, [])
    assert "broken" in call("plugins").stdout
    assert f"plugin theirs (theirs-dist 1.2) is left out: {cause}" in call("doctor").stdout
    install(*entries, strict="1")
    with pytest.raises(PluginError) as strict:
        everything()
    assert str(strict.value) == left_out(cause)
    install(*entries, strict="0", select="-theirs")
    assert everything() == rest


WRONG: list[tuple[type, str, Any, str]] = [  # what it is, its attribute, a value of a wrong type, what to write
    (Adapter, "pipelines", None, "a tuple of names"),
    (Adapter, "pipelines", (1,), "a tuple of names"),
    (Adapter, "streams", ["blocks"], 'a dict from names to "joint" or a pair of "text" and "image"'),
    (Adapter, "streams", {"blocks": "text"}, 'a dict from names to "joint" or a pair of "text" and "image"'),
    (Adapter, "scopes", ["paper"], "a dict from names to Scopes"),
    (Adapter, "scopes", {"paper": None}, "a dict from names to Scopes"),
    (Adapter, "default", None, "a Repulsion"),
    (Adapter, "guidance", None, '"calls" or a tuple of "conditional" and "unconditional"'),
    (Adapter, "measured_on", None, "a string"),
    (Adapter, "draws_unasked", 1, "True or False"),
    (Adapter, "batch", "2", "None or a whole number >= 1"),
    (Adapter, "decodes_fewer", None, "True or False"),
    (Adapter, "references", None, "a whole number >= 0"),
    (Adapter, "may_lack", "tokenizer", "a tuple of names"),
    (EmbeddedModel, "folder", "/models/tiny", "a pathlib.Path"),
    (EmbeddedModel, "folder", None, "a pathlib.Path"),
    (EmbeddedModel, "summary", None, "a string"),
    (EmbeddedModel, "knows", None, "a function of the instruction"),
    (EmbeddedModel, "advice", None, "a string"),
    (EmbeddedModel, "checks", "change", "a tuple of names"),
    (Strategy, "summary", None, "a string"),
    (Strategy, "strength", "1", "a finite number >= 0"),
    (Strategy, "strength", -1.0, "a finite number >= 0"),
    (Strategy, "repels", "yes", "True or False"),
    (Strategy, "extra_seeds", 1.5, "a whole number >= 0"),
    (Check, "summary", 1, "a string"),
    (Embedder, "summary", None, "a string"),
    (Embedder, "apart", "0.1", "None or a number 0 to 2"),
    (Embedder, "apart", 3.0, "None or a number 0 to 2"),
    (Exporter, "summary", None, "a string"),
]


def made(kind: type, **members: Any) -> Any:
    """Something of that kind called "odd", with these attributes."""
    if kind is EmbeddedModel:
        return dataclasses.replace(model("odd"), **members)
    base = {Adapter: Whole, Strategy: Shuffle, Check: Even}.get(kind, kind)
    own = {"name": "odd", "summary": "", "embed": lambda *_: None, "export": lambda *_: None}
    return type("Odd", (base,), {**own, **members})()


@pytest.mark.parametrize(("kind", "member", "value", "wanted"), WRONG)
def test_an_attribute_of_a_wrong_type(install: Install, kind: type, member: str, value: Any, wanted: str) -> None:
    (shelf,) = (shelf for shelf in catalog.SHELVES if shelf.kind is kind)
    brought = made(kind, **{member: value})
    install(*OURS, found("theirs", plugin(**{shelf.hook: lambda: [brought]})))
    with pytest.warns(BrokenPlugin) as caught:
        assert "odd" not in shelf.all()
    message = left_out(f"Its {shelf.what} odd has the {member} {value!r}: write {wanted}")
    assert [str(warning.message) for warning in caught] == [message]
    assert "FluxKontextPipeline" in catalog.pipelines()
    assert catalog.embedded_at("/models/tiny") is None
    assert "flux-kontext" in call("models", "--families").stdout
    assert listed()["theirs"]["status"] == "broken"


@pytest.mark.parametrize("kind", [Adapter, EmbeddedModel, Strategy, Check, Embedder, Exporter])
def test_what_is_right_is_kept(install: Install, kind: type) -> None:
    (shelf,) = (shelf for shelf in catalog.SHELVES if shelf.kind is kind)
    install(*OURS, found("theirs", plugin(**{shelf.hook: lambda: [made(kind)]})))
    assert "odd" in shelf.all()


def test_an_attribute_that_raises(install: Install) -> None:
    install(*OURS, found("theirs", plugin(ctxrep_strategies=lambda: [made(Strategy, strength=property(raising))])))
    with pytest.warns(BrokenPlugin) as caught:
        assert set(catalog.STRATEGIES.all()) == {"contextual"}
    assert [str(warning.message) for warning in caught] == [left_out("ZeroDivisionError: division by zero")]


def test_an_adapter_whose_classes_cannot_be_imported(install: Install, folder: Path, tmp_path: Path) -> None:
    class Heavy(Whole):
        def classes(self) -> Any:
            raise ModuleNotFoundError("No module named 'heavy'")

    install(*OURS, found("theirs", plugin(ctxrep_adapters=lambda: [Heavy()])))
    assert type(load_pipeline(folder, device="cpu", progress=False)).__name__ == "FluxKontextPipeline"
    (tmp_path / "model_index.json").write_text('{"_class_name": "WholePipeline"}')
    with pytest.raises(ModelError) as failed:
        load_pipeline(tmp_path, device="cpu", progress=False)
    assert str(failed.value).startswith(f"The model '{tmp_path}' cannot be loaded: No module named 'heavy'. Check the")


def test_ctrl_c_in_a_plugin_is_not_swallowed(install: Install) -> None:
    def stop() -> Any:
        raise KeyboardInterrupt

    install(*OURS, found("theirs", plugin(ctxrep_strategies=stop)))
    with pytest.raises(KeyboardInterrupt):
        catalog.STRATEGIES.all()


@pytest.mark.parametrize("hook", ["ctxrep_edit_started", "ctxrep_candidate_ready", "ctxrep_edit_finished"])
def test_a_plugin_that_fails_at_an_event(install: Install, pipeline: Any, picture: Any, hook: str) -> None:
    told: list[str] = []
    hello = found("zero", plugin(**{hook: lambda: told.append(hook)}))  # asked after theirs
    install(*OURS, found("theirs", plugin(**{hook: raising})), hello)
    with pytest.warns(BrokenPlugin) as caught:
        edits = diverse_edit(picture, "x", 3, pipeline=pipeline, seed=0, preserve="off", progress=False)
    assert len(edits) == 3
    message = left_out(f"It raised in {hook}. ZeroDivisionError: division by zero")
    assert [str(warning.message) for warning in caught] == [message]  # left out after the first time
    assert told == [hook] * (3 if hook == "ctxrep_candidate_ready" else 1)
    install(*OURS, found("theirs", plugin(**{hook: raising})), strict="1")
    with pytest.raises(PluginError) as strict:
        diverse_edit(picture, "x", 3, pipeline=pipeline, seed=0, preserve="off", progress=False)
    assert str(strict.value) == message


# Commands


def command(name: str) -> click.Command:
    return click.Command(name, callback=lambda: click.echo(f"this is {name}"))


@pytest.mark.parametrize("where", ["cli", "bench"])
def test_a_command_that_is_there_already_stays(install: Install, where: str) -> None:
    name = {"cli": "doctor", "bench": "cost"}[where]

    def theirs(cli: click.Group, bench: click.Group) -> None:
        {"cli": cli, "bench": bench}[where].add_command(command(name))

    install(*OURS, found("bench", bench, "ctxrep-edit"), found("theirs", plugin(ctxrep_commands=theirs)))
    with pytest.warns(BrokenPlugin) as caught:
        result = start(*(["bench"] if where == "bench" else []), name, "--help")
    message = left_out(f"It raised in ctxrep_commands. It adds a command '{name}', which there is already")
    assert [str(warning.message) for warning in caught] == [message]
    assert "this is" not in result.stdout
    assert "Usage" in result.stdout


def test_a_plugin_that_raises_while_it_adds_commands(install: Install) -> None:
    install(*OURS, found("theirs", plugin(ctxrep_commands=lambda cli: raising())))
    with pytest.warns(BrokenPlugin) as caught:
        assert start("models").exit_code == 0
    message = left_out("It raised in ctxrep_commands. ZeroDivisionError: division by zero")
    assert [str(warning.message) for warning in caught] == [message]
