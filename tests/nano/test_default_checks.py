"""What is asked of an embedded model's edits: of each set that its members may differ, and of each edit that it is
right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from command_line import call
from ctxrep_plugins.nano import WEIGHTS, world
from ctxrep_plugins.nano.world import photos
from PIL import Image, ImageColor

from ctxrep_edit import CHECKS, DEFAULT_CHECKS, Case, OutsideItsWorld, diverse_edit, judge, load_pipeline, round_trip
from ctxrep_edit.results.sheet import BAD

ASKED = [*DEFAULT_CHECKS, "right-answer"]
DOUBLE = 6  # a seed from which one of six edits is wrong inside its region, where the push is too strong
PHOTO = Image.fromarray(skimage.data.astronaut())


def trip(pictures: np.ndarray) -> torch.Tensor:
    """(n, h, w, 3) through the autoencoder: (n, 3, h, w)."""
    exact = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2)
    return round_trip(load_pipeline(progress=False), exact)


@pytest.mark.parametrize("bucket", photos.BUCKETS[::2])
@pytest.mark.parametrize("edit", world.EDITS, ids=lambda edit: edit.name)
def test_a_right_answer_alone_among_typical_ones_is_not_flagged(edit: world.Edit, bucket: tuple[int, int]) -> None:
    """A lone rainbow among five rains, a lone football among five cats, a lone thick frame among five thin ones."""
    picture = photos.crop(photos.held_out(), bucket, np.random.default_rng(bucket[0]))
    typical, *others = edit.answers
    kinds = dict.fromkeys(answer[0] if edit.name == "sticker" else answer for answer in others)
    rare = [next(answer for answer in others if kind in (answer, answer[0])) for kind in kinds][:5]
    usual, *odd = trip(np.stack([world.render(edit, picture, answer) for answer in (typical, *rare)]))
    source = torch.from_numpy(picture).permute(2, 0, 1)[None]
    untouched = trip(picture[None])
    for answer, one in zip(rare, odd, strict=True):
        case = Case(source, torch.stack([one, *[usual] * 5]), None, edit.name, False, lambda: untouched)
        said = judge(case, [CHECKS.get(name) for name in DEFAULT_CHECKS])
        assert {name: verdict.reason for name, verdict in said[0].items() if verdict.objects} == {}, answer


def test_the_right_answer_is_asked_for_by_default() -> None:
    edits = diverse_edit(PHOTO, "change the style", 1, model="sd3-nano", seed=5, progress=False, steps=2)
    assert list(edits[0].verdicts) == ASKED


@pytest.mark.parametrize("model", [WEIGHTS / "kontext-nano", str(WEIGHTS / "kontext-nano")])
def test_it_is_asked_for_by_the_folder_too(model: str | Path) -> None:
    given: dict[str, Any] = {"n": 1, "seed": 1, "steps": 1, "progress": False}
    assert list(diverse_edit(PHOTO, "add a frame", model=model, **given)[0].verdicts) == ASKED
    pipeline = load_pipeline(model, progress=False)
    assert list(diverse_edit(PHOTO, "add a frame", pipeline=pipeline, **given)[0].verdicts) == ASKED
    with pytest.warns(OutsideItsWorld):
        edits = diverse_edit(PHOTO, "add a moustache", model=model, **given)
    assert list(edits[0].verdicts) == list(DEFAULT_CHECKS)
    assert list(diverse_edit(PHOTO, "add a frame", model=model, preserve=["change"], **given)[0].verdicts) == ["change"]


def test_a_wrong_answer_is_red_on_a_new_users_first_sheet(tmp_path: Path) -> None:
    PHOTO.save(tmp_path / "photo.png")
    asked = tmp_path / "photo.png", "add a sticker", "-n", 6, "--seed", DOUBLE, "--strength", 6, "-o", tmp_path
    result = call(*asked, "--no-progress")
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert ImageColor.getrgb(BAD) in {colour for _, colour in sheet.getcolors(2**24) or ()}
    stated = json.loads((tmp_path / "edits.json").read_text("utf-8"))
    wrong = [[name for name, one in entry["verdicts"].items() if one["kept"] is False] for entry in stated["edits"]]
    assert ["right-answer"] in wrong  # what no other check sees


def test_the_check_is_not_asked_of_what_its_world_does_not_know() -> None:
    picture = torch.zeros(1, 3, 64, 64)
    (verdict,) = CHECKS.get("right-answer").verdicts(Case(picture, picture, None, "hm", False, lambda: picture))
    assert (verdict.kept, verdict.value, verdict.bound) == (None, None, None)
    assert verdict.reason.startswith("not asked: what a right answer to 'hm' is")
