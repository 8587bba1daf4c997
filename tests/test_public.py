"""The public names, the version, and the plugin seam."""

import re
from importlib.metadata import version
from pathlib import Path

import pytest

import ctxrep_edit

ROOT = Path(__file__).parent.parent
PUBLIC = """
    API_VERSION Adapter BrokenPlugin Case Check CtxrepError Edit EditSet EmbeddedModel Embedder Exporter InputError
    ModelError OutputError OutsideItsWorld PluginError Repulsion RepulsionError Request Run Scope Strategy
    UnknownPipeline Verdict WeightsError attach detach diverse_edit hookimpl load_pipeline lpips_distance lpips_map
    register repelled unregister
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
