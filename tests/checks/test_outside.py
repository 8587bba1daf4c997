"""The default checks, on pictures whose changes are known; registration; what becomes of the unfaithful."""

import functools
import json
from typing import Any

import numpy as np
import pytest
import skimage.data
import tiny
import torch
import torch.nn.functional as F
from ctxrep_plugins.checks.outside import CHECKS, EDGES_LEAST, LPIPS_MARGIN, LPIPS_WHOLE, Structure
from PIL import Image
from torch import Tensor

from ctxrep_edit import Case, Check, InputError, Unfaithful, Verdict, diverse_edit
from ctxrep_edit.faithfulness.regions import estimate_regions
from ctxrep_edit.faithfulness.registration import Motion, find_motion, move, move_back
from ctxrep_edit.imaging import to_tensor

SIDE = 64
INSIDE = torch.zeros(SIDE, SIDE, dtype=torch.bool)
INSIDE[4:28, 4:28] = True
PHOTO = Image.fromarray(skimage.data.astronaut()).resize((SIDE, SIDE), Image.Resampling.BOX)
SOURCE = to_tensor(PHOTO)  # (1, 3, h, w)
ROUND_TRIP = (SOURCE * 0.98 + 0.01).clamp(0, 1)


def painted(where: Tensor) -> Tensor:
    """The round trip with a part of it painted red."""
    return torch.where(where, torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1), ROUND_TRIP)


def case(
    edits: Tensor, mask: Tensor | None = None, plain: bool = False, trip: Tensor = ROUND_TRIP, **more: Any
) -> Case:
    return Case(SOURCE, edits, mask, "paint it", plain, lambda: trip, **more)


def judged(given: Case) -> list[dict[str, Verdict]]:
    said = {check.name: check().verdicts(given) for check in CHECKS}
    return [{name: verdicts[i] for name, verdicts in said.items()} for i in range(len(given.edits))]


def objections(given: Case) -> list[set[str]]:
    return [{name for name, verdict in said.items() if not verdict.kept} for said in judged(given)]


def noisy(picture: Tensor, sigma: float) -> Tensor:
    noise = torch.randn(picture.shape, generator=torch.Generator().manual_seed(0))
    return (picture + sigma * noise).clamp(0, 1)


EDIT = painted(INSIDE)
CORNER = torch.zeros_like(INSIDE)
CORNER[40:60, 40:60] = True
TINT = torch.tensor([0.1, 0.0, -0.1]).view(1, 3, 1, 1)
WRONG = {
    "cast": ((EDIT + TINT).clamp(0, 1), {"pixels", "colour"}),
    "noise": (noisy(EDIT, 0.1), {"pixels"}),
    "shift": (move(EDIT[0], Motion(3, -2, 1.0, 4))[None], {"alignment"}),
    "object": (torch.where(CORNER, EDIT.flip(2), EDIT), {"pixels"}),
}


def test_what_only_went_through_the_autoencoder_passes() -> None:
    for mask in (None, INSIDE):
        (said,) = judged(case(ROUND_TRIP, mask))
        assert all(verdict.kept for verdict in said.values())
        verdict = said["preservation"]
        assert verdict.details["region"] == ("estimated" if mask is None else "mask")
        assert verdict.value == pytest.approx(verdict.details["floor"], abs=1e-6)
        assert verdict.bound == pytest.approx(verdict.details["floor"] + LPIPS_MARGIN)
        assert said["pixels"].details["ssim"] == pytest.approx(1)


def test_an_edit_in_its_place_passes_with_and_without_a_mask() -> None:
    for mask in (None, INSIDE):
        (said,) = judged(case(EDIT, mask))
        assert all(verdict.kept for verdict in said.values()), said
        assert said["preservation"].value == pytest.approx(said["preservation"].details["floor"], abs=0.005)


@pytest.mark.parametrize("fault", WRONG)
def test_what_is_wrong_outside_the_mask_is_found(fault: str) -> None:
    edit, by = WRONG[fault]
    (found,) = objections(case(edit, INSIDE))
    assert by <= found


@pytest.mark.parametrize("fault", ["cast", "noise", "shift"])
def test_one_of_a_set_that_drifts_is_found_without_a_mask(fault: str) -> None:
    edit, by = WRONG[fault]
    given = case(torch.cat([EDIT, edit, EDIT]))
    good, bad, fine = objections(given)
    assert (good, fine) == (set(), set())
    assert bad & by
    assert given.evidence.where == "estimated"


def test_what_one_edit_alone_changes_apart_is_stray() -> None:
    both = painted(INSIDE | CORNER)
    given = case(torch.cat([EDIT, both, EDIT]))
    assert objections(given) == [set(), {"strays"}, set()]
    verdict = judged(given)[1]["strays"]
    assert verdict.value == pytest.approx(20 * 20 / SIDE**2, abs=0.05)
    assert "changes apart from the edit, where no other edit does, over 3%" in verdict.reason
    assert objections(case(torch.cat([EDIT, painted(CORNER), EDIT])))[1] == set()  # the edit itself, elsewhere


def test_what_the_plain_edit_loses_the_others_may_lose() -> None:
    near, far = INSIDE.roll(20, 1), INSIDE.roll(36, 1)
    edits = torch.cat([painted(near), painted(near), painted(near | far)])
    assert all(objections(case(edits, INSIDE)))
    first, same, more = judged(case(edits, INSIDE, plain=True))
    assert [said["preservation"].kept for said in (first, same, more)] == [False, True, False]
    assert same["preservation"].bound == first["preservation"].value
    assert "what the plain edit loses" in same["preservation"].reason
    assert same["pixels"].kept


def test_an_edit_of_the_whole_picture_keeps_its_edges() -> None:
    everything = torch.ones_like(INSIDE)
    darker, other = ROUND_TRIP * 0.5, ROUND_TRIP.flip(3)
    for mask in (everything, None):
        good, lost = judged(case(torch.cat([darker, other]), mask))
        assert good["preservation"].details["region"] == "whole"
        assert good["preservation"].bound == LPIPS_WHOLE
        assert "no outside" in good["preservation"].reason
        assert good["colour"].reason == "an edit of the whole picture has no outside"
        assert all(verdict.kept for verdict in good.values())
        assert lost["structure"].value < EDGES_LEAST
        assert not lost["structure"].kept
        assert "below 0.35" in lost["structure"].reason


def test_estimated_regions() -> None:
    regions, whole = estimate_regions(torch.cat([ROUND_TRIP, EDIT, painted(INSIDE.flip(0))]), ROUND_TRIP)
    assert not whole
    assert not regions[0].any()
    for region, truth in zip(regions[1:], (INSIDE, INSIDE.flip(0)), strict=True):
        assert (region & truth).sum() / (region | truth).sum() > 0.7
    _, whole = estimate_regions(torch.cat([EDIT, 1 - ROUND_TRIP, 1 - ROUND_TRIP]), ROUND_TRIP)
    assert whole


def test_a_verdict_is_json() -> None:
    (said,) = judged(case(EDIT))
    for verdict in said.values():
        stated = json.loads(json.dumps(verdict.to_dict(), allow_nan=False))
        assert set(stated) == {"kept", "measure", "value", "bound", "reason", "details"}
        assert isinstance(stated["details"]["region"], str)


# Registration


@pytest.mark.parametrize("size", [(64, 64), (300, 420)])
@pytest.mark.parametrize(("dx", "dy", "zoom"), [(3.4, -2.2, 1.0), (-7.0, 1.5, 1.0), (0.0, 0.0, 1.06), (2.0, 1.0, 0.95)])
def test_a_motion_is_found_and_undone(size: tuple[int, int], dx: float, dy: float, zoom: float) -> None:
    picture = to_tensor(Image.fromarray(skimage.data.astronaut()).resize(size, Image.Resampling.BOX))[0]
    moved = move(picture, Motion(dx, dy, zoom))
    found = find_motion(picture, (0.8 * moved + 0.1).flip(0))  # other colours too
    assert (found.dx, found.dy, found.zoom) == pytest.approx((dx, dy, zoom), abs=0.3)
    back, seen = move_back(moved, found)
    assert 0.6 < seen.float().mean() < 1 or zoom < 1
    assert (back - picture).abs().mean(0)[seen].mean() < 0.03


def test_nothing_moves_what_lies_where_it_was() -> None:
    for edit in (SOURCE[0], EDIT[0], noisy(SOURCE, 0.05)[0], 1 - SOURCE[0], torch.zeros(3, 40, 40)):
        assert not find_motion(SOURCE[0] if edit.shape[1] == SIDE else edit, edit)


def test_realign_returns_the_picture_moved_back() -> None:
    moved = WRONG["shift"][0]
    given = case(moved, INSIDE, realign=True)
    (said,) = judged(given)
    assert all(verdict.kept for verdict in said.values())
    assert said["alignment"].details["shift"] == pytest.approx([3, -2], abs=0.2)
    assert said["alignment"].reason.endswith("and was moved back")
    assert (given.evidence.edits - EDIT).abs().mean(1)[given.evidence.seen].mean() < 0.02


def test_restore_gives_the_source_back_outside_the_region() -> None:
    given = case(WRONG["cast"][0], INSIDE, restore=True)
    evidence = given.evidence
    assert torch.equal(evidence.edits[0][:, ~INSIDE], SOURCE[0][:, ~INSIDE])
    assert torch.equal(evidence.edits[0][:, 12:20, 12:20], WRONG["cast"][0][0][:, 12:20, 12:20])
    assert objections(given) == [set()]


# From the outside


edit = functools.partial(diverse_edit, instruction=tiny.WORDS, n=3, seed=5, progress=False)


class Picky(Check):
    """Objects to the second candidate, in as many rounds as it is told."""

    name = "picky"
    summary = "objects"

    def __init__(self, rounds: int) -> None:
        self.left = rounds
        self.seen: list[Tensor] = []

    def verdicts(self, case: Case) -> list[Verdict]:
        self.seen.append(case.edits)
        good, self.left = self.left <= 0, self.left - 1
        return [Verdict(i != 1 or good, "taste", 0.0, 0.0, "ugly", {}) for i in range(len(case.edits))]


def test_the_unfaithful_are_made_again_weaker_from_other_noise(pipeline: Any, picture: Image.Image) -> None:
    first = edit(picture, pipeline=pipeline, preserve="off", strength=1.0)
    check = Picky(2)
    edits = edit(picture, pipeline=pipeline, preserve=[check], on_unfaithful="retry", retries=3, strength=1.0)
    assert edits.recipe["rounds"] == 2
    assert edits.recipe["on_unfaithful"] == "retry"
    assert [entry.seed for entry in edits] == [5, 5 + 3 * 2 + 1, 7]
    assert [entry.strength for entry in edits] == [0.0, 0.25, 1.0]
    assert [entry.faithful for entry in edits] == [True] * 3
    assert edits.images[0] == first.images[0]
    assert edits.images[2] == first.images[2]
    assert len({images[1].numpy().tobytes() for images in check.seen}) == 3


def test_what_never_passes_comes_back_with_its_verdict(pipeline: Any, picture: Image.Image) -> None:
    check = Picky(99)
    edits = edit(picture, pipeline=pipeline, preserve=[check], on_unfaithful="retry")
    assert len(check.seen) == 3
    assert [entry.faithful for entry in edits] == [True, False, True]
    assert edits[1].verdict is not None
    assert edits[1].verdict.reason == "ugly"


def test_dropping_says_so(pipeline: Any, picture: Image.Image) -> None:
    edits = edit(picture, pipeline=pipeline, preserve=[Picky(1)], on_unfaithful="drop")
    assert [entry.index for entry in edits] == [0, 2]
    assert [entry.index for entry in edits.dropped] == [1]
    assert "2 edits, seeds 5-7, 2 of 2 kept the rest, 1 dropped" in repr(edits)
    assert edits.to_dict()["dropped"][0]["seed"] == 6
    none = edit(picture, pipeline=pipeline, n=2, preserve=[Nothing()], on_unfaithful="drop")
    assert len(none) == 0
    assert "0 edits, 2 dropped" in repr(none)
    assert none.sheet().size[0] > 0
    with pytest.raises(
        InputError, match=r"The set holds no edit to compare: all were dropped\. Look at edits\.dropped"
    ):
        _ = none.vendi


class Nothing(Check):
    name = "nothing"
    summary = "objects to all"

    def verdicts(self, case: Case) -> list[Verdict]:
        return [Verdict(False, "taste", 0.0, 0.0, "ugly")] * len(case.edits)


def test_raising_keeps_the_edits(pipeline: Any, picture: Image.Image) -> None:
    with pytest.raises(Unfaithful, match=r"1 of 3 edits did not keep what they should \(edit 2: ugly\)") as caught:
        edit(picture, pipeline=pipeline, preserve=[Picky(1)], on_unfaithful="raise")
    assert [entry.faithful for entry in caught.value.edits] == [True, False, True]


def test_restore_returns_pictures_of_the_sources_size(pipeline: Any, picture: Image.Image) -> None:
    large = picture.resize((400, 300), Image.Resampling.NEAREST)
    mask = Image.new("L", large.size, 0)
    mask.paste(255, (0, 0, 200, 300))
    for entry in edit(large, pipeline=pipeline, preserve="off", mask=mask, restore=True):
        assert entry.image.size == large.size
        assert entry.region is not None
        assert entry.region.size == large.size
        right = (200, 0, 400, 300)
        assert entry.image.crop(right).tobytes() == large.crop(right).tobytes()
        assert entry.region.tobytes() == mask.tobytes()
        assert np.abs(np.subtract(entry.image, large, dtype=float))[:, :150].mean() > 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_unfaithful": "hide"}, "on_unfaithful is 'hide', but must be one of flag, drop, raise, retry"),
        ({"retries": 0}, "retries is 0, but must be a whole number of rounds, at least 1"),
        ({"on_unfaithful": "drop", "preserve": "off"}, "on_unfaithful is 'drop', but no check is asked"),
        ({"on_unfaithful": "retry", "latents": torch.zeros(3, 1)}, "latents has a row for each edit, but a retry"),
    ],
)
def test_what_is_refused(pipeline: Any, picture: Image.Image, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        edit(picture, pipeline=pipeline, **options)


def test_regions_of_edits_whose_place_was_not_asked_for_are_not_computed(pipeline: Any, picture: Image.Image) -> None:
    assert [entry.region for entry in edit(picture, pipeline=pipeline, preserve="off")] == [None] * 3


def test_drift_of_the_whole_counts_where_a_mask_says_what_may_change() -> None:
    blurred = F.avg_pool2d(SOURCE, 9, 1, 4, count_include_pad=False)
    assert "preservation" in objections(case(blurred, INSIDE, trip=SOURCE))[0]
    assert objections(case(blurred, INSIDE, trip=blurred)) == [set()]


def test_what_most_of_a_set_lose_of_the_edges_was_asked_for() -> None:
    blurred = F.avg_pool2d(ROUND_TRIP, 7, 1, 3, count_include_pad=False)
    alone = Structure().verdicts(case(torch.cat([blurred, 0.5 * ROUND_TRIP, 0.6 * ROUND_TRIP])))
    assert [verdict.kept for verdict in alone] == [False, True, True]
    together = Structure().verdicts(case(torch.cat([blurred, 0.9 * blurred, 0.8 * blurred])))
    assert all(verdict.kept and verdict.value < EDGES_LEAST for verdict in together)
