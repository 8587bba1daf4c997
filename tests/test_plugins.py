"""The plugin seam: how plugins are found and chosen, and that a broken one costs only itself."""

import inspect
import itertools
import json
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from ctxrep_adapters import flux_kontext
from ctxrep_plugins import standard

from ctxrep_edit import (
    BrokenPlugin,
    Check,
    EmbeddedModel,
    Embedder,
    Exporter,
    InputError,
    PluginError,
    Strategy,
    catalog,
    cli,
    hookimpl,
    hookspecs,
    plugins,
    register,
    unregister,
)

HOOKS = [name for name in vars(hookspecs) if name.startswith("ctxrep_")]
TESTS = Path(__file__).parent


class Dist:
    """What importlib.metadata says of a distribution."""

    def __init__(self, name: str) -> None:
        self.name, self.version = name, "1.2"


class Found(EntryPoint):
    """An entry point that gives an object, or imports a module."""

    def load(self) -> Any:
        thing = vars(self)["thing"]
        return super().load() if thing is None else thing


def found(name: str, thing: Any = None, dist: str = "", value: str = "their.module") -> Found:
    entry = Found(name, value, hookspecs.PROJECT)
    vars(entry).update(thing=thing, dist=Dist(dist or f"{name}-dist"))
    return entry


Install = Callable[..., None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs plugins instead of the real ones, with CTXREP_EDIT_PLUGINS and CTXREP_EDIT_STRICT."""
    before = {group: dict(group.commands) for group in (cli.cli, cli.bench)}

    def put(*entries: Found, select: str = "", strict: str = "") -> None:
        monkeypatch.setattr(plugins, "entry_points", lambda group: entries)
        monkeypatch.setenv(plugins.SELECT, select)
        monkeypatch.setenv(plugins.STRICT, strict)
        plugins._state.cache_clear()

    yield put
    monkeypatch.undo()
    plugins._state.cache_clear()
    for group, commands in before.items():
        group.commands = commands


def plugin(**members: Any) -> Any:
    """A plugin with these hooks; what is no hook is set as it is."""
    hooks = {k: hookimpl(v) if k.startswith("ctxrep_") and callable(v) else v for k, v in members.items()}
    return types.SimpleNamespace(**hooks)


class Shuffle(Strategy):
    name = "shuffle"
    summary = "another order"

    def sample(self, run: Any) -> Any:
        return run.call().flip(0)


def model(name: str) -> EmbeddedModel:
    return EmbeddedModel(name, TESTS, "", lambda words: True, "")


OURS = (found("flux_kontext", flux_kontext, "ctxrep-edit"), found("standard", standard, "ctxrep-edit"))


def listed() -> dict[str, dict[str, Any]]:
    """What `ctxrep-edit plugins --json` prints, by plugin."""
    result = CliRunner().invoke(cli.cli, ["plugins", "--json"])
    assert result.exit_code == 0, result.output
    return {entry["name"]: entry for entry in json.loads(result.stdout)["plugins"]}


# Finding and choosing


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
        with pytest.raises(PluginError, match=r"There is a plugin called theirs already, theirs \(in code\): register"):
            register(plugin(ctxrep_strategies=lambda: []), "theirs")
    finally:
        unregister("theirs")
    assert "shuffle" not in catalog.STRATEGIES.all()
    with pytest.raises(InputError, match="There is no strategy 'shuffle': choose one of cads, contextual, dave"):
        catalog.STRATEGIES.get("shuffle")
    for name in ("theirs", "standard"):
        with pytest.raises(PluginError, match=f"No plugin called {name} was registered in code"):
            unregister(name)


def test_registering_nonsense_leaves_nothing() -> None:
    before = listed()
    for thing, cause in ((plugin(), "no hook"), (plugin(ctxrep_nonsense=lambda: None), "ctxrep_nonsense")):
        with pytest.raises(PluginError, match=f"(?s)The plugin theirs cannot be used.*{cause}"):
            register(thing, "theirs")
    assert listed() == before


def test_two_plugins_of_one_name(install: Install) -> None:
    one, two = (found("hello", plugin(ctxrep_strategies=lambda: [Shuffle()]), dist) for dist in ("alpha", "beta"))
    message = (
        r"Two plugins are called hello: hello \(alpha 1\.2\) and hello \(beta 1\.2\)\. Switch one off with "
        r"CTXREP_EDIT_PLUGINS=-alpha or CTXREP_EDIT_PLUGINS=-beta, or uninstall one\."
    )
    for entries in itertools.permutations([one, two]):
        install(*OURS, *entries)
        with pytest.raises(PluginError, match=f"^{message}$"):
            catalog.STRATEGIES.get("contextual")
        result = CliRunner().invoke(cli.cli, ["plugins"])
        assert result.stdout.count("contested") == 2
        assert "hello" in CliRunner().invoke(cli.cli, ["doctor"]).stdout
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
        with pytest.raises(
            PluginError,
            match=r"^Two plugins drive FluxKontextPipeline: flux_kontext \(ctxrep-edit 1\.2"
            r"\) and other \(other-dist 1\.2\)\. Switch one off with CTXREP_EDIT_PLUGINS=-flux_kontext",
        ):
            catalog.adapter_for(claimed)
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
    install(*OURS, *(found(name, plugin(**{hook: lambda: [thing]})) for name in ("one", "two")))
    with pytest.raises(PluginError, match=rf"^Two plugins provide the {shelf.what} shuffle: one \(one-dist 1\.2\) and"):
        shelf.get("shuffle")
    assert "shuffle" not in shelf.all()
    assert catalog.STRATEGIES.get("contextual").name == "contextual"


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
            "CTXREP_EDIT_PLUGINS names 'helo', which is not installed. Installed: ctxrep-edit,",
        ),
        ("-standard,hello", "CTXREP_EDIT_PLUGINS=-standard,hello both selects and switches off: give either"),
    ],
)
def test_selections_that_cannot_be_meant(install: Install, select: str, message: str) -> None:
    install(*OURS, found("hello", plugin(ctxrep_strategies=lambda: [Shuffle()])), select=select)
    result = CliRunner().invoke(cli.cli, ["plugins"])
    assert result.exit_code == 1
    assert f"Error: {message}" in result.stderr


# A broken one


def raising(*_: Any) -> Any:
    raise ZeroDivisionError("division by zero")


def later() -> Iterator[Any]:
    yield Shuffle()
    raising()


def unknown_hook() -> Any:
    return plugin(ctxrep_nonsense=lambda: None)


def unknown_argument() -> Any:
    def ctxrep_models(nonsense: int) -> list[EmbeddedModel]:
        return []

    return plugin(ctxrep_models=ctxrep_models)


def wrapper() -> Any:
    @hookimpl(wrapper=True)
    def ctxrep_models() -> Any:
        return (yield)

    return types.SimpleNamespace(ctxrep_models=ctxrep_models)


class Nameless(Strategy):
    summary = ""

    def sample(self, run: Any) -> Any:
        return run.call()


strategies = [Shuffle()]
BROKEN = {  # the plugin, and its error
    "import": (None, "ModuleNotFoundError: No module named 'their'"),
    "unknown hook": (unknown_hook(), "PluginValidationError: unknown hook 'ctxrep_nonsense' in plugin"),
    "unknown argument": (unknown_argument(), "PluginValidationError: Plugin 'theirs' for hook 'ctxrep_models'"),
    "no hook": (plugin(strategy=Shuffle()), "It has no hook: decorate its functions with ctxrep_edit.hookimpl"),
    "wrapper": (wrapper(), "It wraps the hooks of others, which is not possible here: leave wrapper=True out"),
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
    "raises later": (plugin(ctxrep_strategies=later), "It raised in ctxrep_strategies. ZeroDivisionError: division"),
    "no list": (plugin(ctxrep_strategies=lambda: Shuffle()), "Its ctxrep_strategies gives <"),
    "no strategy": (
        plugin(ctxrep_strategies=lambda: ["shuffle"]),
        "Its ctxrep_strategies gives 'shuffle', which is no instance of Strategy",
    ),
    "no name": (
        plugin(ctxrep_strategies=lambda: [Nameless()]),
        "Its ctxrep_strategies gives a Nameless that has no",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_plugin_costs_only_itself(install: Install, kind: str) -> None:
    thing, cause = BROKEN[kind]
    entries = (*OURS, found("theirs", thing), found("hello", plugin(ctxrep_strategies=lambda: [Shuffle()])))
    install(*entries)
    with pytest.warns(BrokenPlugin) as caught:
        known = catalog.STRATEGIES.all()
    (warning,) = caught
    assert str(warning.message).startswith(f"The plugin theirs (theirs-dist 1.2) is left out. {cause}")
    assert str(warning.message).endswith("Update or uninstall it, or switch it off with CTXREP_EDIT_PLUGINS=-theirs.")
    assert set(known) == {"contextual", "shuffle"}
    assert "FluxKontextPipeline" in catalog.pipelines()
    entry = listed()["theirs"]
    assert (entry["status"], entry["provides"]) == ("broken", [])
    assert entry["error"].startswith(cause)
    assert "broken" in CliRunner().invoke(cli.cli, ["plugins"]).stdout
    assert f"plugin theirs (theirs-dist 1.2) is left out: {cause}" in CliRunner().invoke(cli.cli, ["doctor"]).stdout
    install(*entries, strict="1")
    with pytest.raises(PluginError, match="The plugin theirs"):
        catalog.STRATEGIES.all()
    install(*entries, strict="0", select="-theirs")
    assert set(catalog.STRATEGIES.all()) == {"contextual", "shuffle"}


def test_ctrl_c_in_a_plugin_is_not_swallowed(install: Install) -> None:
    def stop() -> Any:
        raise KeyboardInterrupt

    install(*OURS, found("theirs", plugin(ctxrep_strategies=stop)))
    with pytest.raises(KeyboardInterrupt):
        catalog.STRATEGIES.all()


def test_a_plugin_that_fails_at_an_event(install: Install, pipeline: Any, picture: Any) -> None:
    from ctxrep_edit import diverse_edit

    for hook in ("ctxrep_edit_started", "ctxrep_candidate_ready", "ctxrep_edit_finished"):
        install(*OURS, found("theirs", plugin(**{hook: raising})))
        with pytest.warns(BrokenPlugin, match=f"It raised in {hook}. ZeroDivisionError") as caught:
            edits = diverse_edit(picture, "x", 3, pipeline=pipeline, seed=0, preserve="off", progress=False)
        assert (len(edits), len(caught)) == (3, 1)  # left out after the first time


# Commands


def command(name: str) -> click.Command:
    return click.Command(name, callback=lambda: click.echo(f"this is {name}"))


def start(*arguments: str) -> Any:
    return CliRunner().invoke(click.Command("main", callback=lambda: cli.main(list(arguments))), [])


def test_commands(install: Install) -> None:
    def ctxrep_commands(cli: click.Group, bench: click.Group) -> None:
        cli.add_command(command("hello"))
        bench.add_command(command("race"))

    install(*OURS, found("theirs", plugin(ctxrep_commands=ctxrep_commands)))
    assert start("hello").stdout == "this is hello\n"
    assert "race" in cli.bench.commands


@pytest.mark.parametrize("where", ["cli", "bench"])
def test_a_command_that_is_there_already_stays(install: Install, where: str) -> None:
    name = {"cli": "doctor", "bench": "cost"}[where]

    def theirs(cli: click.Group, bench: click.Group) -> None:
        {"cli": cli, "bench": bench}[where].add_command(command(name))

    install(*OURS, found("theirs", plugin(ctxrep_commands=theirs)))
    with pytest.warns(BrokenPlugin, match=rf"It raised in ctxrep_commands\. It adds a command '{name}', which"):
        result = start(*(["bench"] if where == "bench" else []), name, "--help")
    assert "this is" not in result.stdout
    assert "Usage" in result.stdout


def test_a_plugin_that_raises_while_it_adds_commands(install: Install) -> None:
    install(*OURS, found("theirs", plugin(ctxrep_commands=lambda cli: raising())))
    with pytest.warns(BrokenPlugin, match="It raised in ctxrep_commands. ZeroDivisionError"):
        assert start("models").exit_code == 0


# The specification


def test_every_hook_is_typed_and_says_what_it_is() -> None:
    for name in HOOKS:
        hook = getattr(hookspecs, name)
        assert hook.__doc__, name
        assert set(inspect.signature(hook).parameters) | {"return"} == set(hook.__annotations__), name


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_has_a_test(hook: str) -> None:
    used = [path.name for path in TESTS.glob("test_*.py") if f"{hook}=" in path.read_text("utf-8") or
            f'"{hook}"' in path.read_text("utf-8")]  # fmt: skip
    assert used


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
