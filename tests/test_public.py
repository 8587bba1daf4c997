"""The public names, the version, and the plugin seam."""

import re
import types
from collections.abc import Iterator
from importlib.metadata import EntryPoint, version
from pathlib import Path
from typing import Any

import pytest
from ctxrep_adapters import flux_kontext

import ctxrep_edit
from ctxrep_edit import EmbeddedModel, PluginError, hookimpl, plugins

ROOT = Path(__file__).parent.parent
PUBLIC = """
    Adapter CtxrepError Edit EditSet EmbeddedModel InputError ModelError OutputError OutsideItsWorld PluginError
    Repulsion RepulsionError Request Scope UnknownPipeline Verdict WeightsError attach detach diverse_edit hookimpl
    load_pipeline lpips_distance lpips_map repelled
"""


def test_all_is_what_was_promised() -> None:
    assert sorted(ctxrep_edit.__all__) == sorted(PUBLIC.split())
    assert set(PUBLIC.split()) <= set(dir(ctxrep_edit))


@pytest.mark.parametrize("name", PUBLIC.split())
def test_every_public_name_can_be_imported_and_says_what_it_is(name: str) -> None:
    value = getattr(ctxrep_edit, name)
    assert value.__doc__ or name == "hookimpl"


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="diverse_edits"):
        _ = ctxrep_edit.diverse_edits  # type: ignore[attr-defined]


def test_the_version_is_the_changelogs_newest() -> None:
    released = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert ctxrep_edit.__version__ == released[0] == version("ctxrep-edit")


def test_it_is_typed() -> None:
    assert (ROOT / "ctxrep_edit" / "py.typed").is_file()


# The plugin seam


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Installs plugins, given as objects or as the entry point's value, instead of the real ones."""

    def install(**found: Any) -> None:
        class Found(EntryPoint):
            def load(self) -> Any:
                given = found[self.name]
                return super().load() if isinstance(given, str) else given

        entries = [
            Found(name, given if isinstance(given, str) else "theirs.module", "ctxrep_edit")
            for name, given in found.items()
        ]
        monkeypatch.setattr(plugins, "entry_points", lambda group: entries)
        plugins._loaded.cache_clear()

    yield install
    monkeypatch.undo()
    plugins._loaded.cache_clear()


def plugin(**hooks: Any) -> Any:
    return types.SimpleNamespace(**{name: hookimpl(hook) for name, hook in hooks.items()})


def model(name: str) -> EmbeddedModel:
    return EmbeddedModel(name, ROOT, "", lambda words: True, "")


def test_the_built_in_ones_come_through_the_same_door() -> None:
    names = {name for name, _ in plugins.manager().list_name_plugin()}
    assert {"flux_kontext", "nano"} <= names
    assert not plugins.broken()


def broken_hook() -> Any:
    def ctxrep_nonsense() -> None: ...

    return plugin(ctxrep_nonsense=ctxrep_nonsense)


def broken_argument() -> Any:
    def ctxrep_models(nonsense: int) -> list[EmbeddedModel]:
        return []

    return plugin(ctxrep_models=ctxrep_models)


@pytest.mark.parametrize(
    ("theirs", "cause"),
    [
        ("no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        (broken_hook(), "ctxrep_nonsense"),
        (broken_argument(), "nonsense"),
    ],
)
def test_a_broken_plugin_does_not_take_the_others_along(installed: Any, theirs: Any, cause: str) -> None:
    installed(theirs=theirs, ours=flux_kontext)
    with pytest.warns(
        plugins.BrokenPlugin, match=rf"(?s)plugin theirs .* is left out\. .*{cause}.* Update or uninstall it"
    ):
        assert "FluxKontextPipeline" in plugins.adapters()
    assert plugins.models() == {}
    assert [*plugins.broken()] == ["theirs"]
    assert cause in plugins.broken()["theirs"]


def test_plugins_that_contradict_each_other(installed: Any) -> None:
    one, two = (plugin(ctxrep_models=lambda: [model("small")]) for _ in range(2))
    other = plugin(ctxrep_adapters=lambda: [flux_kontext.FluxKontext()])
    installed(one=one, two=two, ours=flux_kontext, other=other)
    with pytest.raises(PluginError, match="Two plugins provide a model called small: uninstall one of them"):
        plugins.models()
    with pytest.raises(PluginError, match="Adapters flux-kontext and flux-kontext both drive FluxKontextPipeline"):
        plugins.adapters()


def test_plugins_add_up(installed: Any) -> None:
    installed(one=plugin(ctxrep_models=lambda: [model("a")]), two=plugin(ctxrep_models=lambda: [model("b")]))
    assert set(plugins.models()) == {"a", "b"}
