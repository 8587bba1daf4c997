"""What was recoloured beside a replaced part: found without a mask, and not where recolouring is the edit."""

import pytest
import skimage.data
import torch
from checks.known_changes import judged
from ctxrep_plugins.checks.tints import TINTED_MOST
from PIL import Image
from torch import Tensor

from ctxrep_edit import Case, to_tensor

SIDE = 160
SOURCE = to_tensor(Image.fromarray(skimage.data.astronaut()).resize((SIDE, SIDE)))  # (1, 3, h, w)
OTHER = to_tensor(Image.fromarray(skimage.data.chelsea()[:300, :300]).resize((SIDE, SIDE)))
REPLACED = torch.zeros(SIDE, SIDE, dtype=torch.bool)
REPLACED[20:60, 20:70] = True
BESIDE = torch.zeros_like(REPLACED)
BESIDE[60:120, 20:80] = True


def edited(*, replaced: bool = True, darker: bool = False) -> Tensor:
    edit = torch.where(BESIDE, SOURCE * 0.6, SOURCE) if darker else SOURCE
    return torch.where(REPLACED, OTHER, edit) if replaced else edit


def tinted(*edits: Tensor, mask: Tensor | None = None, plain: bool = False) -> list[dict[str, float]]:
    given = Case(SOURCE, torch.cat(edits), mask, "put a cat there", plain, lambda: SOURCE)
    return [said["preservation"].details["measures"].get("tinted", {}) for said in judged(given)]


def test_a_neighbour_made_darker_is_found_and_a_replaced_part_is_none() -> None:
    (alone,) = tinted(edited())
    assert alone["value"] < TINTED_MOST / 2
    (dark,) = tinted(edited(darker=True))
    assert dark["value"] > 1.3 * TINTED_MOST
    assert dark["value"] <= float(BESIDE.float().mean()) + 0.02
    given = Case(SOURCE, edited(darker=True), None, "put a cat there", False, lambda: SOURCE)
    (said,) = judged(given)
    assert said["preservation"].word == "damaged"
    assert "of the picture was recoloured beside what was replaced" in said["preservation"].reason


def test_where_recolouring_is_the_edit_it_is_no_fault() -> None:
    (only,) = tinted(edited(replaced=False, darker=True))
    assert only == {"value": 0, "bound": TINTED_MOST, "kept": True}


def test_in_a_set_another_answer_is_no_fault() -> None:
    assert tinted(edited(darker=True), edited(), edited()) == [{}, {}, {}]


def test_no_more_is_asked_of_the_others_than_of_the_plain_edit() -> None:
    first, second = tinted(edited(darker=True), edited(darker=True), plain=True)
    assert not first["kept"]
    assert second["kept"]
    assert second["bound"] == pytest.approx(first["value"], abs=1e-3)


def test_with_a_mask_the_outside_says_it() -> None:
    assert tinted(edited(darker=True), mask=REPLACED) == [{}]
