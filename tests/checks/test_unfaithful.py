"""What becomes of edits that a check objects to: flagged, dropped, raised, made again or restored."""

import functools
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from plugging import Nothing
from torch import Tensor

from ctxrep_edit import Case, Check, InputError, Unfaithful, Verdict, diverse_edit

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


def test_the_unfaithful_are_made_again_as_strongly_from_other_noise(pipeline: Any, picture: Image.Image) -> None:
    first = edit(picture, pipeline=pipeline, preserve="off", strength=1.0)
    check = Picky(2)
    edits = edit(picture, pipeline=pipeline, preserve=[check], on_unfaithful="retry", retries=3, strength=1.0)
    assert edits.recipe["rounds"] == 2
    assert edits.recipe["on_unfaithful"] == "retry"
    assert [entry.seed for entry in edits] == [5, 5 + 3 * 2 + 1, 7]
    assert [entry.strength for entry in edits] == [0.0, 1.0, 1.0]
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
    assert "2 edits, seeds 5, 7, 2 of 2 kept the rest, 1 dropped" in repr(edits)
    assert edits.to_dict()["dropped"][0]["seed"] == 6
    none = edit(picture, pipeline=pipeline, n=2, preserve=[Nothing()], on_unfaithful="drop")
    assert len(none) == 0
    assert "0 edits, 2 dropped" in repr(none)
    assert none.sheet().size[0] > 0
    with pytest.raises(
        InputError, match=r"The set holds no edit to compare\. Those that were dropped are in edits\.dropped"
    ):
        _ = none.vendi


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


def test_restore_keeps_transparency_outside_the_region(pipeline: Any, picture: Image.Image) -> None:
    layer = picture.resize((400, 300)).convert("RGBA")
    layer.putalpha(Image.linear_gradient("L").transpose(Image.Transpose.ROTATE_90).resize(layer.size))
    mask = Image.new("L", layer.size, 0)
    mask.paste(255, (0, 0, 200, 300))
    asked = edit(layer, pipeline=pipeline, preserve=["preservation"], mask=mask, restore=True)
    for entry in asked:
        assert entry.image.mode == "RGBA"
        assert entry.image.crop((200, 0, 400, 300)).tobytes() == layer.crop((200, 0, 400, 300)).tobytes()
        alpha = np.asarray(entry.image.getchannel("A"))
        assert alpha[:, :150].min() == 255
        assert (alpha[:, :200] >= np.asarray(layer.getchannel("A"))[:, :200]).all()
    assert asked.source.mode == "RGB"
    laid = edit(Image.composite(layer, Image.new("RGBA", layer.size, "white"), layer), pipeline=pipeline, mask=mask)
    assert laid.vendi == pytest.approx(edit(layer, pipeline=pipeline, mask=mask).vendi, rel=0.01)
    assert {entry.image.mode for entry in edit(layer, pipeline=pipeline, preserve="off", mask=mask)} == {"RGB"}


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
