"""The public names, the version, and the plugin seam."""

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import ctxrep_edit
import ctxrep_edit.testing

ROOT = Path(__file__).parent.parent
PUBLIC = """
    API_VERSION Adapter Attachment Bank BrokenColourProfile BrokenPlugin CHECKS Case Check Clock CtxrepError
    DEFAULT_CHECKS EMBEDDERS EXPORTERS Edit EditSet EditStream EmbeddedModel Embedder Evidence Exporter Forming
    ImageLike InputError MIN_LPIPS_SIDE MODELS ModelError OutputError OutsideItsWorld PipelineBusy PluginError
    Repulsion RepulsionError Request Run STRATEGIES Scope Strategy TruncatedInstruction Uncalibrated Unfaithful
    UnknownPipeline Verdict WeightsError adapter_for alexnet_features assess attach before_each_call brought_down
    calibration_file contact_sheet default_settings detach diverse_edit encode_json encode_png ensure_weights hookimpl
    judge load_pipeline lpips_distance lpips_map lpips_maps luma orientation read_image register repel repelled
    round_trip stream_edits to_tensor unregister vendi_score write_bank
"""
MEMBERS = {  # what plugins are promised by API 1.0
    "Adapter": "name pipelines streams scopes default guidance measured_on draws_unasked decodes_fewer batch "
    "references may_lack classes transformer scope latents timestep guided text_length image_length generated denoises "
    "fills rows instruction check_call encode decode pack unpacked size arguments",
    "Scope": "blocks summary within iterations pooled channels chosen",
    "Request": "image instruction generators size steps mask references",
    "Strategy": "name summary strength repels extra_seeds sample",
    "Run": "pipeline adapter call arguments seeds settings instruction still contextual_vendi bank ranks churn n",
    "Check": "name summary prepare verdicts",
    "Case": "source edits mask instruction first_is_plain round_trip realign restore frames worded instructions "
    "evidence",
    "Verdict": "kept measure value bound reason details fault word not_asked objects to_dict",
    "Embedder": "name summary apart embed",
    "Exporter": "name summary export",
    "EmbeddedModel": "name folder summary knows advice checks",
    "Repulsion": "scope strength eta window steps schedule iterations objective keep_norm guidance anchor oversample "
    "churn hold active share",
    "Edit": "image seed index verdicts strength region name trace value label file faithful verdict lpips to_dict",
    "EditSet": "instruction source edits recipe contextual_vendi seconds dropped credits asked between like more "
    "images vendi vendi_in distinct distinct_in row sheet to_dict save load report index count",
}


@pytest.mark.parametrize("name", MEMBERS)
def test_the_members_of_the_contracts_are_what_was_promised(name: str) -> None:
    """Adding one raises the minor number of the API, taking one away the major one: see docs/plugins/stability.md."""
    cls = getattr(ctxrep_edit, name)
    members = {*dir(cls), *getattr(cls, "__annotations__", ())}
    assert {member for member in members if not member.startswith("_")} == set(MEMBERS[name].split())
    assert ctxrep_edit.API_VERSION == "1.0"
    policy = (ROOT / "docs" / "plugins" / "stability.md").read_text("utf-8")
    assert f"`{name}`" in policy


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


KIT = """
    AdapterConformance CheckConformance EmbedderConformance ExporterConformance PluginConformance SteeringConformance
    StrategyConformance case edit_set tiny_picture tiny_pipeline traces
"""


def test_the_kit_is_what_was_promised() -> None:
    assert sorted(ctxrep_edit.testing.__all__) == sorted(KIT.split())
    assert all(getattr(ctxrep_edit.testing, name).__doc__ for name in KIT.split())


def test_using_it_needs_no_pytest() -> None:
    code = (
        "import sys, ctxrep_edit, ctxrep_edit.cli, ctxrep_edit.api\n"
        "for name in ctxrep_edit.__all__: getattr(ctxrep_edit, name)\n"
        "assert 'pytest' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_version_is_the_changelogs_newest() -> None:
    released = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert ctxrep_edit.__version__ == released[0] == version("ctxrep-edit")


def test_it_is_typed() -> None:
    assert (ROOT / "ctxrep_edit" / "py.typed").is_file()
