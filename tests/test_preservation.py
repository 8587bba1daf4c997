"""The check of what should have stayed, on pictures whose changes are known."""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ctxrep_edit.preservation import GLOBAL_BOUND, MARGIN, assess, estimate_region

SIDE = 64
INSIDE = torch.zeros(SIDE, SIDE, dtype=torch.bool)
INSIDE[4:28, 4:28] = True


def noise(seed: int, cells: int) -> Tensor:
    """Smooth colours: (1, 3, h, w) in [0, 1]."""
    coarse = torch.rand(1, 3, cells, cells, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, SIDE, mode="bicubic", align_corners=False).clamp(0, 1)


SOURCE = noise(0, 16)
ROUND_TRIP = (SOURCE * 0.98 + 0.01).clamp(0, 1)


def painted(where: Tensor) -> Tensor:
    """The round trip with a part of it painted red."""
    return torch.where(where, torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1), ROUND_TRIP)


def test_what_only_went_through_the_autoencoder_passes() -> None:
    for mask in (None, INSIDE):
        (verdict,) = assess(SOURCE, ROUND_TRIP, ROUND_TRIP, mask)
        assert verdict.kept
        assert verdict.details["region"] == ("estimated" if mask is None else "mask")
        assert verdict.value == pytest.approx(verdict.details["floor"], abs=1e-6)
        assert verdict.bound == pytest.approx(verdict.details["floor"] + MARGIN)


def test_a_change_inside_the_mask_passes_and_one_outside_fails() -> None:
    inside, outside = painted(INSIDE), painted(INSIDE.flip(0, 1))
    good, bad = assess(SOURCE, torch.cat([inside, outside]), ROUND_TRIP, INSIDE)
    assert (good.kept, bad.kept) == (True, False)
    assert good.value == pytest.approx(good.details["floor"], abs=1e-6)  # the edit itself does not count
    assert bad.value > 2 * bad.bound
    assert good.details["floor"] == bad.details["floor"]
    assert "within" in good.reason
    assert "over" in bad.reason
    assert f"{bad.value:.3f}" in bad.reason
    assert f"{bad.bound:.3f}" in bad.reason


def test_what_the_plain_edit_loses_the_others_may_lose() -> None:
    near, far = INSIDE.roll(20, 1), INSIDE.roll(36, 1)
    edits = torch.cat([painted(near), painted(near), painted(near | far)])
    assert [verdict.kept for verdict in assess(SOURCE, edits, ROUND_TRIP, INSIDE)] == [False] * 3
    verdicts = assess(SOURCE, edits, ROUND_TRIP, INSIDE, first_is_plain=True)
    assert [verdict.kept for verdict in verdicts] == [False, True, False]
    assert verdicts[1].bound == verdicts[0].value
    assert "what the plain edit loses" in verdicts[1].reason


def test_without_a_mask_each_edit_has_a_region_of_its_own() -> None:
    edits = torch.cat([painted(INSIDE), painted(INSIDE.flip(0, 1))])
    verdicts = assess(SOURCE, edits, ROUND_TRIP)
    assert [verdict.details["region"] for verdict in verdicts] == ["estimated"] * 2
    assert all(verdict.kept for verdict in verdicts)


def test_what_drifts_everywhere_a_little_fails_where_a_mask_says_what_may_change() -> None:
    stripes = (
        (torch.arange(SIDE) // 4) % 2 * 2 - 1
    ) * 0.09  # faint: without a mask it would be taken for an edit of the whole
    (verdict,) = assess(SOURCE, (painted(INSIDE) + stripes).clamp(0, 1), SOURCE, INSIDE)
    assert verdict.details["region"] == "mask"
    assert not verdict.kept


def test_an_edit_may_lose_what_the_autoencoder_loses() -> None:
    lossy = F.avg_pool2d(SOURCE, 9, 1, 4, count_include_pad=False)
    (strict,) = assess(SOURCE, lossy, SOURCE, INSIDE)
    (lenient,) = assess(SOURCE, lossy, lossy, INSIDE)
    assert (strict.kept, lenient.kept) == (False, True)
    assert strict.details["floor"] == pytest.approx(0, abs=1e-6)
    assert strict.value == lenient.value == lenient.details["floor"]


def test_an_edit_of_the_whole_picture_has_no_outside() -> None:
    everything = torch.ones(SIDE, SIDE, dtype=torch.bool)
    darker = ROUND_TRIP * 0.5
    for verdict in assess(SOURCE, darker, ROUND_TRIP, everything) + assess(SOURCE, darker, ROUND_TRIP):
        assert verdict.details["region"] == "whole"
        assert verdict.bound == GLOBAL_BOUND
        assert verdict.kept == (verdict.value <= GLOBAL_BOUND)
        assert "no outside" in verdict.reason
    (lost,) = assess(SOURCE, noise(9, 64).round(), ROUND_TRIP, everything)
    assert not lost.kept
    assert "is beyond" in lost.reason


def test_estimated_regions() -> None:
    edits = torch.cat([ROUND_TRIP, painted(INSIDE), 1 - noise(0, 16).round()])
    nothing, some, most = estimate_region(edits, ROUND_TRIP)
    assert not nothing.any()
    assert some[10:20, 10:20].float().mean() > 0.9
    assert not some[36:, 36:].any()
    assert most.float().mean() > 0.8


def test_a_verdict_is_json() -> None:
    (verdict,) = assess(SOURCE, ROUND_TRIP, ROUND_TRIP)
    stated = json.loads(json.dumps(verdict.to_dict()))
    assert stated["kept"] is True
    assert set(stated) == {"kept", "measure", "value", "bound", "reason", "details"}
