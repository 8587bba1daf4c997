"""How plugins are found and chosen, whatever the order of installation, and what they may provide."""

from __future__ import annotations

import inspect
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import call
from ctxrep_adapters import flux_kontext
from plugging import HOOKS, OURS, Install, Shuffle, found, listed, model, plugin

from ctxrep_edit import Check, Embedder, Exporter, InputError, PluginError, register, unregister
from ctxrep_edit.plugins import catalog, hookspecs


def test_our_own_come_through_the_same_door() -> None:
    shown = listed()
    assert {"flux_kontext", "sd3", "nano", "peers", "standard"} <= set(shown)
    for entry in shown.values():
        assert (entry["status"], entry["error"], entry["distribution"]) == ("ok", "", "ctxrep-edit")
    assert shown["flux_kontext"]["provides"] == ["adapter flux-kontext"]
    assert "strategy contextual" in shown["standard"]["provides"]


def test_registered_in_code() -> None:
    theirs = plugin(ctxrep_strategies=lambda: [Shuffle()])
    register(theirs, "theirs")
    try:
        assert catalog.STRATEGIES.get("shuffle").summary == "another order"
        assert listed()["theirs"] | {"source": ""} == {
            "name": "theirs", "version": "", "distribution": "", "source": "", "hooks": ["ctxrep_strategies"],
            "status": "ok", "error": "", "provides": ["strategy shuffle"],
        }  # fmt: skip
        with pytest.raises(PluginError) as taken:
            register(plugin(ctxrep_strategies=lambda: []), "theirs")
        assert str(taken.value) == (
            "There is a plugin called theirs already, theirs (in code): register under another name."
        )
    finally:
        unregister("theirs")
    assert "shuffle" not in catalog.STRATEGIES.all()
    with pytest.raises(InputError, match="There is no strategy 'shuffle': choose one of cads, contextual, dave"):
        catalog.STRATEGIES.get("shuffle")
    for name in ("theirs", "standard"):
        with pytest.raises(PluginError) as unknown:
            unregister(name)
        assert str(unknown.value) == (
            f"No plugin called {name} was registered in code: only such a plugin can be taken out."
        )


def test_registering_nonsense_leaves_nothing() -> None:
    before = listed()
    nonsense = plugin(ctxrep_nonsense=lambda: None)
    for thing, cause in (
        (plugin(), "It has no hook: decorate its functions with ctxrep_edit.hookimpl"),
        (nonsense, "PluginValidationError: unknown hook 'ctxrep_nonsense' in plugin <a plugin>"),
    ):
        with pytest.raises(PluginError) as refused:
            register(thing, "theirs")
        assert str(refused.value) == f"The plugin theirs cannot be used. {cause}"
    assert listed() == before


def test_two_plugins_of_one_name(install: Install) -> None:
    one, two = (found("hello", plugin(ctxrep_strategies=lambda: [Shuffle()]), dist) for dist in ("alpha", "beta"))
    for entries in itertools.permutations([one, two]):
        install(*OURS, *entries)
        with pytest.raises(PluginError) as contested:
            catalog.STRATEGIES.get("contextual")
        assert str(contested.value) == (
            "Two plugins are called hello: hello (alpha 1.2) and hello (beta 1.2). Switch one off with "
            "CTXREP_EDIT_PLUGINS=-alpha or CTXREP_EDIT_PLUGINS=-beta, or uninstall one."
        )
        result = call("plugins")
        assert result.stdout.count("contested") == 2
        assert "hello" in call("doctor").stdout
    install(*OURS, one, two, select="-beta")
    assert "shuffle" in catalog.STRATEGIES.all()


class Pipe:
    """Stands for a pipeline class of somebody's."""


def test_two_adapters_of_one_pipeline_class(install: Install) -> None:
    class Other(flux_kontext.FluxKontext):
        name = "other"
        pipelines = ("Pipe", "FluxKontextPipeline")

    claimed = type("FluxKontextPipeline", (), {})()
    free = type("FluxKontextInpaintPipeline", (), {})()
    other = found("other", plugin(ctxrep_adapters=lambda: [Other()]))
    for entries in itertools.permutations([*OURS, other]):
        install(*entries)
        with pytest.raises(PluginError) as contested:
            catalog.adapter_for(claimed)
        assert str(contested.value) == (
            "Two plugins drive FluxKontextPipeline: flux_kontext (ctxrep-edit 1.2) and other (other-dist 1.2). Switch "
            "one off with CTXREP_EDIT_PLUGINS=-flux_kontext or CTXREP_EDIT_PLUGINS=-other, or uninstall one."
        )
        assert catalog.adapter_for(free).name == "flux-kontext"  # the others work
        assert catalog.adapter_for(Pipe()).name == "other"
        assert set(catalog.pipelines()) == {"Pipe", "FluxKontextInpaintPipeline"}
    install(*OURS, other, select="-flux_kontext")
    assert catalog.adapter_for(claimed).name == "other"


class Passes(Check):
    name = "shuffle"
    summary = "lets everything pass"

    def verdicts(self, case: Any) -> list[Any]:
        return []


class Flat(Embedder):
    name = "shuffle"
    summary = "the pixels"

    def embed(self, images: Any) -> Any:
        return images.flatten(1)


class Nothing(Exporter):
    name = "shuffle"
    summary = "no files"

    def export(self, edits: Any, folder: Path) -> None: ...


@pytest.mark.parametrize(
    ("hook", "thing", "shelf"),
    [
        ("ctxrep_strategies", Shuffle(), catalog.STRATEGIES),
        ("ctxrep_models", model("shuffle"), catalog.MODELS),
        ("ctxrep_checks", Passes(), catalog.CHECKS),
        ("ctxrep_embedders", Flat(), catalog.EMBEDDERS),
        ("ctxrep_exporters", Nothing(), catalog.EXPORTERS),
    ],
)
def test_two_things_of_one_name(install: Install, hook: str, thing: Any, shelf: Any) -> None:
    theirs = [found(name, plugin(**{hook: lambda: [thing]})) for name in ("one", "two")]
    for entries in itertools.permutations(theirs):
        install(*OURS, *entries)
        with pytest.raises(PluginError) as contested:
            shelf.get("shuffle")
        assert str(contested.value) == (
            f"Two plugins provide the {shelf.what} shuffle: one (one-dist 1.2) and two (two-dist 1.2). Switch one off "
            "with CTXREP_EDIT_PLUGINS=-one or CTXREP_EDIT_PLUGINS=-two, or uninstall one."
        )
        assert "shuffle" not in shelf.all()
        assert catalog.STRATEGIES.get("contextual").name == "contextual"
    install(*OURS, *theirs, select="-one")
    assert shelf.get("shuffle") is thing


def test_one_in_code_and_one_installed(install: Install) -> None:
    install(*OURS, found("one", plugin(ctxrep_strategies=lambda: [Shuffle()])))
    register(plugin(ctxrep_strategies=lambda: [Shuffle()]), "mine")
    with pytest.raises(PluginError) as contested:
        catalog.STRATEGIES.get("shuffle")
    assert str(contested.value) == (
        "Two plugins provide the strategy shuffle: mine (in code) and one (one-dist 1.2). Switch one off with "
        "ctxrep_edit.unregister('mine') or CTXREP_EDIT_PLUGINS=-one, or uninstall one."
    )


@pytest.mark.parametrize(
    ("select", "on"),
    [
        ("", {"flux_kontext", "standard", "hello"}),
        ("hello", {"hello"}),
        (" hello , standard,", {"hello", "standard"}),
        ("-hello", {"flux_kontext", "standard"}),
        ("ctxrep-edit", {"flux_kontext", "standard"}),
        ("-ctxrep-edit", {"hello"}),
    ],
)
def test_selecting(install: Install, select: str, on: set[str]) -> None:
    install(*OURS, found("hello", plugin(ctxrep_strategies=lambda: [Shuffle()])), select=select)
    assert {name for name, entry in listed().items() if entry["status"] == "ok"} == on
    assert {name for name, entry in listed().items() if entry["status"] == "off"} == set(listed()) - on


@pytest.mark.parametrize(
    ("select", "message"),
    [
        (
            "helo",
            "CTXREP_EDIT_PLUGINS names 'helo', which is not installed. Installed: ctxrep-edit, flux_kontext, hello, "
            "hello-dist, standard.",
        ),
        (
            "-standard,hello",
            "CTXREP_EDIT_PLUGINS=-standard,hello both selects and switches off: give either names or names with a "
            "minus.",
        ),
    ],
)
def test_selections_that_cannot_be_meant(install: Install, select: str, message: str) -> None:
    install(*OURS, found("hello", plugin(ctxrep_strategies=lambda: [Shuffle()])), select=select)
    result = call("plugins")
    assert result.exit_code == 1
    assert result.stderr == f"Error: {message}\n"


def test_every_hook_is_typed_and_says_what_it_is() -> None:
    for name in HOOKS:
        hook = getattr(hookspecs, name)
        assert hook.__doc__, name
        assert set(inspect.signature(hook).parameters) | {"return"} == set(hook.__annotations__), name


def test_listing_plugins_imports_no_torch() -> None:
    code = (
        "import sys; from ctxrep_edit.cli import main\n"
        "try: main(['plugins', '--json'])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'diffusers', 'transformers', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["api"] == hookspecs.API_VERSION
