"""The checks that look for objects moved or missing and for noise, on pictures whose changes are known."""

import pytest
import skimage.data
import torch
from ctxrep_plugins.checks import objects, whole
from ctxrep_plugins.checks.objects import COPY_MOST
from ctxrep_plugins.checks.verdicts import Measure
from ctxrep_plugins.checks.whole import GRAIN_MOST
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from ctxrep_edit import Case, to_tensor
from ctxrep_edit.faithfulness.residuals import unexplained

SIDE = 64
PHOTO = Image.fromarray(skimage.data.astronaut()).resize((SIDE, SIDE), Image.Resampling.BOX)
SOURCE = to_tensor(PHOTO)  # (1, 3, h, w)
RED = torch.tensor([0.9, 0.1, 0.1]).view(3, 1, 1)
PLACES = (4, 22, 42)  # where edits of a part paint a square
OBJECT = slice(40, 56), slice(6, 22)  # away from these, and not plain
ELSEWHERE = slice(4, 20), slice(40, 56)


def painted(place: int) -> Tensor:
    """A chequered red square, as an edit of a part would leave: (3, h, w)."""
    out = SOURCE[0].clone()
    board = (torch.arange(16)[:, None] // 4 + torch.arange(16)[None] // 4) % 2
    out[:, place : place + 16, 24:40] = RED * (0.5 + 0.5 * board)
    return out


def moved(picture: Tensor) -> Tensor:
    out = picture.clone()
    out[:, *OBJECT] = SOURCE[0, :, *ELSEWHERE]
    return out


def missing(picture: Tensor) -> Tensor:
    out = picture.clone()
    out[:, *OBJECT] = SOURCE[0, :, *OBJECT].mean((1, 2), keepdim=True)
    return out


def noisy(picture: Tensor) -> Tensor:
    return (picture + 0.08 * torch.randn(picture.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)


def warmer(picture: Tensor, much: float) -> Tensor:
    tint = torch.tensor([1.0, 0.8, 0.6]).view(3, 1, 1)
    return picture * (0.9 - 0.2 * much) * tint + 0.2 * much


PARTS = torch.stack([painted(place) for place in (*PLACES, *PLACES)])
WHOLES = torch.stack([warmer(SOURCE[0], i / 5) for i in range(6)])


def case(edits: Tensor, mask: Tensor | None = None) -> Case:
    return Case(SOURCE, edits, mask, "change it", False, lambda: SOURCE)


def measured(shown: Case) -> list[dict[str, Measure]]:
    return (whole if shown.evidence.where == "whole" else objects).measures(shown.evidence)


def objections(shown: Case) -> list[set[str]]:
    return [{name for name, one in found.items() if not one.kept} - {"strays", "edges"} for found in measured(shown)]


@pytest.mark.parametrize("edits", [PARTS, WHOLES], ids=["part", "whole"])
def test_right_edits_pass(edits: Tensor) -> None:
    assert objections(case(edits)) == [set()] * 6


@pytest.mark.parametrize("size", [(64, 64), (160, 160), (96, 200)])
def test_an_object_that_was_moved_or_taken_away_beside_an_edit_is_found(size: tuple[int, int]) -> None:
    for fault, name in ((moved, "moved"), (missing, "missing")):
        edits = torch.stack([fault(PARTS[0]), *PARTS[1:]])
        source, edits = (torch.nn.functional.interpolate(x, size, mode="bilinear") for x in (SOURCE, edits))
        said = objections(Case(source, edits, None, "change it", False, lambda source=source: source))
        assert name in said[0]
        assert said[1:] == [set()] * 5


def test_what_every_edit_of_a_set_moves_was_asked_for() -> None:
    for fault in (moved, missing):
        assert objections(case(torch.stack([fault(edit) for edit in PARTS]))) == [set()] * 6


def test_two_edits_and_a_mask_are_not_asked() -> None:
    two = torch.stack([moved(PARTS[0]), PARTS[1]])
    mask = torch.ones(SIDE, SIDE, dtype=torch.bool)
    mask[0] = False
    for shown in (case(two), case(torch.stack([moved(PARTS[0]), *PARTS[1:]]), mask)):
        assert objects.measures(shown.evidence) == [{}] * len(shown.edits)


def test_an_object_is_found_in_an_edit_of_the_whole_picture() -> None:
    for fault in (moved, missing):
        edits = torch.stack([warmer(fault(SOURCE[0]), 0.2), *WHOLES[1:]])
        said = objections(case(edits))
        assert "uniformity" in said[0]
        assert said[1:] == [set()] * 5


def test_noise_is_found_in_an_edit_of_the_whole_picture() -> None:
    edits = torch.stack([warmer(noisy(SOURCE[0]), 0.2), *WHOLES[1:]])
    assert "grain" in objections(case(edits))[0]
    grain = measured(case(edits))[0]["grain"]
    assert grain.value > grain.bound == GRAIN_MOST


def test_a_set_that_is_noisy_throughout_sets_its_own_bound() -> None:
    edits = torch.stack([warmer(noisy(SOURCE[0]), i / 5) for i in range(6)])
    assert all(found["grain"].kept and found["grain"].bound > GRAIN_MOST for found in measured(case(edits)))


def test_a_picture_that_no_one_operation_explains_is_not_asked_for_one() -> None:
    """As when a big model repaints all of it: neither noise, nor a part that was treated otherwise."""
    repainted = case(SOURCE.flip(2), torch.ones(SIDE, SIDE, dtype=torch.bool))
    assert "uniformity" not in measured(repainted)[0]


def test_a_measure_says_what_was_found() -> None:
    found = measured(case(torch.stack([moved(PARTS[0]), *PARTS[1:]])))[0]["moved"]
    assert found.value > COPY_MOST == found.bound
    assert found.fault == "a part shows what the source has in another place"


@settings(deadline=None, max_examples=30)
@given(
    gain=st.floats(0.1, 1.0), lift=st.floats(0.0, 0.3), height=st.integers(8, 80), width=st.integers(8, 80),
    seed=st.integers(0, 100),
)  # fmt: skip
def test_one_operation_on_the_whole_picture_is_explained(
    gain: float, lift: float, height: int, width: int, seed: int
) -> None:
    source = torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))
    left = unexplained(source, gain * source.flip(0) + lift)
    assert left.shape == (height, width)
    assert left.max() < 1e-2


@pytest.mark.parametrize("shape", [(3, 1, 1), (3, 1, 40), (3, 8, 8), (3, 600, 20)])
def test_any_shape_and_flat_pictures_can_be_explained(shape: tuple[int, int, int]) -> None:
    left = unexplained(torch.full(shape, 0.5), torch.full(shape, 0.25))
    assert torch.isfinite(left).all()
    assert max(left.shape) <= 256
