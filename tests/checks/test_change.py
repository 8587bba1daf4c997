"""Whether anything happened where it was asked, whatever is restored afterwards."""

import numpy as np
import pytest
import skimage.data
import torch
from checks.known_changes import CORNER, EDIT, INSIDE, ROUND_TRIP, SOURCE, case, noisy
from ctxrep_plugins.checks.change import CHANGE_LEAST, Change
from ctxrep_plugins.nano import world
from ctxrep_plugins.nano.world.judge import Judge
from PIL import Image
from torch import Tensor

from ctxrep_edit import DEFAULT_CHECKS, diverse_edit, load_pipeline, to_tensor

FAINT = (EDIT - ROUND_TRIP) * 0.02 + ROUND_TRIP


@pytest.mark.parametrize("restore", [False, True])
@pytest.mark.parametrize("empty", [ROUND_TRIP, noisy(ROUND_TRIP, 0.02), FAINT], ids=["same", "noise", "faint"])
def test_an_edit_that_does_nothing_is_found(empty: Tensor, restore: bool) -> None:
    for mask in (None, INSIDE):
        bad, good = Change().verdicts(case(torch.cat([empty, EDIT]), mask, restore=restore))
        assert (bad.kept, good.kept) == (False, True)
        assert bad.value < CHANGE_LEAST == bad.bound < good.value
        assert bad.reason.endswith("below 0.05: nothing was done")
    assert "change" in DEFAULT_CHECKS


@pytest.mark.parametrize("restore", [False, True])
def test_what_was_done_elsewhere_was_not_done_where_it_was_asked(restore: bool) -> None:
    (verdict,) = Change().verdicts(case(EDIT, CORNER, restore=restore))
    assert not verdict.kept
    assert "within the mask" in verdict.reason


def test_a_right_edit_of_the_whole_picture_is_a_change() -> None:
    (verdict,) = Change().verdicts(case(1 - SOURCE, torch.ones_like(INSIDE)))
    assert verdict.kept


def test_stickers_outside_the_mask_are_not_passed_as_restored_nothing() -> None:
    """Half of what the model places lies outside the mask, where restoring takes it away again."""
    photo = Image.fromarray(skimage.data.astronaut())
    mask = Image.new("L", photo.size, 0)
    mask.paste(255, (256, 256, 512, 512))
    edits = diverse_edit(photo, "add a sticker", mask=mask, restore=True, seed=1, progress=False, preserve=["change"])
    made = diverse_edit(photo, "add a sticker", seed=1, progress=False, preserve="off")
    judge = Judge(world.EDITS[0], np.asarray(made.source, np.float32) / 255, load_pipeline(progress=False))
    rulings = [judge(to_tensor(image)[0]) for image in made.images]
    there = {i: "bottom right" in ruling.answer for i, ruling in enumerate(rulings) if ruling.right}
    assert {*there.values()} == {True, False}
    assert {i: edits[i].faithful for i in there} == there
