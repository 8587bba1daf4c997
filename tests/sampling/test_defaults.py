"""What is said of a strength that nobody measured on the model at hand."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tiny import edit

from ctxrep_edit import Repulsion, Uncalibrated, load_pipeline
from ctxrep_edit.sampling import defaults


@pytest.fixture(autouse=True)
def nothing_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defaults, "_TOLD", set())


@pytest.fixture
def silent(pipeline: Any, folder: Path, tmp_path: Path) -> Any:
    """A pipeline whose model states sizes and arguments, and no settings."""
    stated = json.loads((folder / "ctxrep.json").read_text())
    (tmp_path / "ctxrep.json").write_text(json.dumps({**stated, "repulsion": {}}))
    pipeline.register_to_config(_name_or_path=str(tmp_path))
    return pipeline


def test_it_is_said_once_with_the_command(silent: Any, picture: Image.Image, tmp_path: Path) -> None:
    with pytest.warns(Uncalibrated) as caught:
        edits = edit(picture, pipeline=silent, n=2)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert str(caught[0].message) == (
        f"strength='auto' takes for {tmp_path} the default of the family flux-kontext, which was measured on "
        f"kontext-nano and not on this model. Find settings for it by 'ctxrep-edit calibrate --model {tmp_path}', or "
        "give a strength."
    )
    assert edits.recipe["strength_from"] == "default of the family flux-kontext, measured on kontext-nano"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        edit(picture, pipeline=silent, n=2)


@pytest.mark.parametrize(
    "options",
    [{"strength": 1.0}, {"strength": 0}, {"repulsion": Repulsion(eta=1.0)}, {"strategy": "cads"}, {"n": 1}],
    ids=["a strength", "plain", "eta", "another strategy", "one edit"],
)
def test_nothing_is_said_where_it_is_not_taken(silent: Any, picture: Image.Image, options: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", Uncalibrated)
        edits = edit(picture, pipeline=silent, **{"n": 2, **options})
    if "n" not in options:
        assert edits.recipe["strength_from"] is None


def test_settings_without_a_strength_leave_it_open(silent: Any, picture: Image.Image) -> None:
    with pytest.warns(Uncalibrated):
        edit(picture, pipeline=silent, n=2, repulsion=Repulsion(scope="context"))


def test_what_is_said_beside_the_settings_wins(pipeline: Any, picture: Image.Image) -> None:
    """A window and a number of steps say the same, so that one of them is left."""
    asked = Repulsion(scope="middle", steps=2, strength=0.5)
    edits = edit(picture, pipeline=pipeline, n=2, scope="double", window=0.3, strength=0.7, repulsion=asked)
    found = edits.recipe["repulsion"]
    assert (found["scope"], found["strength"], found["window"], found["steps"]) == ("double", 0.7, 0.3, None)


def test_a_family_that_was_tried_on_random_weights_says_so(silent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from ctxrep_adapters.qwen_image import QwenImageEdit

    from ctxrep_edit.plugins.profiles import profile

    with pytest.warns(Uncalibrated, match="was tried on random weights alone and is a cautious one"):
        defaults.warn_uncalibrated(silent, QwenImageEdit(), profile(silent))


def test_nothing_is_said_of_what_is_stated_or_measured_or_has_no_name(
    pipeline: Any, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ctxrep_edit import adapter_for
    from ctxrep_edit.plugins.profiles import profile

    with warnings.catch_warnings():
        warnings.simplefilter("error", Uncalibrated)
        edits = edit(picture, pipeline=pipeline, n=2)  # its folder states settings
        for name in ("kontext-nano", "sd3-nano", "qwen-nano"):
            embedded = load_pipeline(name, device="cpu")
            defaults.warn_uncalibrated(embedded, adapter_for(embedded), profile(embedded))
        pipeline.register_to_config(_name_or_path="")
        edit(picture, pipeline=pipeline, n=2, width=32, height=32, steps=2, max_sequence_length=16)
    assert edits.recipe["strength_from"] == "stated by this model: ctxrep.json"
