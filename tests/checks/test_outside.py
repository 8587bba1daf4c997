"""The default checks, on pictures whose changes are known."""

import json

import pytest
import torch
import torch.nn.functional as F
from checks.known_changes import (
    CORNER,
    EDIT,
    INSIDE,
    ROUND_TRIP,
    SIDE,
    SOURCE,
    WRONG,
    case,
    judged,
    objections,
    painted,
)
from ctxrep_plugins.checks.outside import LOSS_MOST
from ctxrep_plugins.checks.preservation import LPIPS_WHOLE
from ctxrep_plugins.checks.whole import EDGES_LEAST

from ctxrep_edit.faithfulness.regions import differences, estimate_regions


def test_what_only_went_through_the_autoencoder_is_empty_and_no_loss() -> None:
    for mask in (None, INSIDE):
        (said,) = judged(case(ROUND_TRIP, mask))
        assert [name for name, verdict in said.items() if verdict.objects] == ["change"]
        verdict = said["preservation"]
        assert verdict.details["region"] == ("estimated" if mask is None else "mask")
        assert verdict.value == pytest.approx(0, abs=1e-6)
        assert verdict.bound == pytest.approx(LOSS_MOST * (1 if mask is not None else (160 / SIDE) ** 0.5))
        assert verdict.reason == f"the rest was kept: it loses 0.000 LPIPS, at most {verdict.bound:.3f}"


def test_an_edit_in_its_place_passes_with_and_without_a_mask() -> None:
    for mask in (None, INSIDE):
        (said,) = judged(case(EDIT, mask))
        assert not any(verdict.objects for verdict in said.values()), said
        assert said["preservation"].value == pytest.approx(0, abs=0.005)
        assert {verdict.word for verdict in said.values()} == {"kept"}


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
    first, second, third = objections(given)
    assert (first, third) == (set(), set())
    assert "strays" in second
    verdict = judged(given)[1]["preservation"]
    assert verdict.details["measures"]["strays"]["value"] == pytest.approx(20 * 20 / SIDE**2, abs=0.05)
    assert "of the picture changes apart from the edit" in verdict.reason
    assert verdict.word == "damaged"
    assert "strays" not in objections(case(torch.cat([EDIT, painted(CORNER), EDIT])))[1]  # the edit itself, elsewhere


def test_what_the_plain_edit_loses_the_others_may_lose() -> None:
    near, far = INSIDE.roll(20, 1), INSIDE.roll(36, 1)
    edits = torch.cat([painted(near), painted(near), painted(near | far)])
    assert all(objections(case(edits, INSIDE)))
    first, same, more = (said["preservation"] for said in judged(case(edits, INSIDE, plain=True)))
    assert [verdict.kept for verdict in (first, same, more)] == [False, True, False]
    spots = same.details["measures"]["spots"]
    assert spots["bound"] == pytest.approx(spots["value"], abs=1e-4)


def test_an_edit_of_the_whole_picture_keeps_its_edges() -> None:
    everything = torch.ones_like(INSIDE)
    darker, other = ROUND_TRIP * 0.5, ROUND_TRIP.flip(3)
    for mask in (everything, None):
        good, lost = judged(case(torch.cat([darker, other]), mask))
        assert good["preservation"].details["region"] == "whole"
        assert good["preservation"].bound == LPIPS_WHOLE
        assert "the whole picture was edited, and its layout kept" in good["preservation"].reason
        assert not any(verdict.objects for verdict in good.values())
        assert lost["preservation"].details["measures"]["edges"]["value"] < EDGES_LEAST
        assert not lost["preservation"].kept
        assert "the layout of a part is lost" in lost["preservation"].reason


def test_drift_of_the_whole_counts_where_a_mask_says_what_may_change() -> None:
    blurred = F.avg_pool2d(SOURCE, 9, 1, 4, count_include_pad=False)
    assert "spots" in objections(case(blurred, INSIDE, trip=SOURCE))[0]
    assert objections(case(blurred, INSIDE, trip=blurred)) == [{"change"}]  # what the autoencoder costs is no loss


def test_estimated_regions() -> None:
    edits = torch.cat([ROUND_TRIP, EDIT, painted(INSIDE.flip(0))])
    regions, whole = estimate_regions(differences(edits, ROUND_TRIP), ROUND_TRIP.expand_as(edits))
    assert not whole
    assert not regions[0].any()
    for region, truth in zip(regions[1:], (INSIDE, INSIDE.flip(0)), strict=True):
        assert (region & truth).sum() / (region | truth).sum() > 0.7
    edits = torch.cat([EDIT, 1 - ROUND_TRIP, 1 - ROUND_TRIP])
    _, whole = estimate_regions(differences(edits, ROUND_TRIP), ROUND_TRIP.expand_as(edits))
    assert whole


def test_a_verdict_is_json() -> None:
    (said,) = judged(case(EDIT))
    for verdict in said.values():
        stated = json.loads(json.dumps(verdict.to_dict(), allow_nan=False))
        assert set(stated) == {"kept", "measure", "value", "bound", "reason", "details", "fault"}
        assert isinstance(stated["details"]["region"], str)
