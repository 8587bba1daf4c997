"""Edits that repeat another are made again, until they do not or the rounds are over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import tiny
import torch
from PIL import Image
from sampling.test_rounds import Objects, Seen
from skimage import data
from torch import Tensor

from ctxrep_edit import EditSet, InputError, Run, diverse_edit, stream_edits
from ctxrep_edit.sampling.repeats import Distances

OPTIONS: dict[str, Any] = {"width": 64, "height": 64, "steps": 4, "seed": 5, "progress": False, "preserve": "off"}


def shapes(kinds: Sequence[int]) -> Tensor:
    """Pictures, (n, 3, 64, 64): two of one kind are one edit, two of two kinds are two. Kind 0 is grey, others have a
    bright square in a place of their own."""
    images = torch.full((len(kinds), 3, 64, 64), 0.3)
    for image, kind in zip(images, kinds, strict=True):
        if kind:
            x, y = 16 * (kind % 4), 16 * (kind // 4)
            image[:, y : y + 16, x : x + 16] = 1
    return images


class Shows(Seen):
    """Shows, in each run, pictures of the kinds that it is told."""

    def __init__(self, *runs: Sequence[int]) -> None:
        super().__init__()
        self.told = [*runs]

    def sample(self, run: Run) -> Tensor:
        super().sample(run)
        return shapes(self.told.pop(0))


def made(picture: Image.Image, pipeline: Any, *runs: Sequence[int], **options: Any) -> tuple[EditSet, Shows]:
    strategy = Shows(*runs)
    options = {**OPTIONS, "distinct": "retry", "oversample": 1, **options}
    edits = diverse_edit(picture, tiny.WORDS, len(runs[0]), pipeline=pipeline, strategy=strategy, **options)
    assert not strategy.told  # as many rounds as were foreseen
    return edits, strategy


def kinds(edits: EditSet) -> list[int]:
    known = [image.tobytes() for image in diverse(range(16))]
    return [known.index(image.tobytes()) for image in edits.images]


def diverse(which: Sequence[int]) -> list[Image.Image]:
    return [Image.fromarray((x.permute(1, 2, 0) * 255).round().byte().numpy()) for x in shapes(which)]


@pytest.fixture
def square(picture: Image.Image) -> Image.Image:
    return picture.resize((64, 64))


def test_a_repeat_is_made_again_unlike_those_that_are_kept(pipeline: Any, square: Image.Image) -> None:
    edits, seen = made(square, pipeline, [1, 2, 1, 3], [4])
    assert kinds(edits) == [1, 2, 4, 3]
    assert seen.kept == [[], [0, 1, 3]]
    assert edits.distinct == 4
    assert (edits.recipe["remade"], edits.recipe["agreed"]) == ([[2]], False)
    assert [edit.seed for edit in edits] == [5, 6, 5 + 4 + 2, 8]


def test_more_repeat_none_of_those_that_they_are_unlike(pipeline: Any, square: Image.Image) -> None:
    options = {**OPTIONS, "oversample": 1, "bank": "memory"}
    strategy = Shows([1, 2], [1, 3], [1, 3], [4], [2, 1], [5], [6])
    edits = diverse_edit(square, tiny.WORDS, 2, pipeline=pipeline, strategy=strategy, **options)
    assert kinds(edits.more(2, progress=False)) == [1, 3]  # as this set was asked for
    more = edits.more(2, distinct="retry", progress=False)
    assert (kinds(more), more.recipe["remade"]) == ([4, 3], [[0]])
    assert (edits + more).distinct == 4
    again = edits.more(2, unlike=edits[1:], distinct="retry", progress=False)
    assert kinds(again) == [5, 1]  # what it is not to be unlike is no repeat
    assert strategy.told == [[6]]


def test_a_picture_that_anybody_made_is_not_repeated_either(pipeline: Any, square: Image.Image) -> None:
    strategy, theirs = Shows([0], [3, 1], [2]), diverse([3])[0].resize((128, 128))  # first its tokens are taken
    options = {**OPTIONS, "oversample": 1, "distinct": "retry", "unlike": [theirs]}
    edits = diverse_edit(square, tiny.WORDS, 2, pipeline=pipeline, strategy=strategy, **options)
    assert kinds(edits) == [2, 1]


def test_what_repeats_again_or_fails_is_not_taken(pipeline: Any, square: Image.Image) -> None:
    edits, seen = made(square, pipeline, [1, 2, 1, 3], [3], [2])
    assert kinds(edits) == [1, 2, 1, 3]
    assert [edit.seed for edit in edits] == [5, 6, 7, 8]
    assert edits.recipe["remade"] == [[], []]
    assert seen.kept == [[], [0, 1, 3], [0, 1, 3]]
    checked = {"preserve": [Objects([[2], ()])]}  # of what was tried, of what was left
    edits, _ = made(square, pipeline, [1, 2, 1, 3], [4], retries=1, **checked)
    assert (kinds(edits), all(edit.faithful for edit in edits)) == ([1, 2, 1, 3], True)


def test_what_was_not_taken_leaves_the_bank_as_it_was(pipeline: Any, square: Image.Image) -> None:
    edits, seen = made(square, pipeline, [1, 2, 1, 3], [3], retries=1, bank="memory")
    trace = edits[2].trace
    assert trace is not None
    first, place = seen.made[0], next(iter(trace.memory))
    assert all(torch.equal(trace.memory[place], memory[place]) == (i == 2) for i, memory in enumerate(first))


def test_one_that_is_new_does_not_make_a_kept_one_a_repeat(pipeline: Any, square: Image.Image) -> None:
    edits, _ = made(square, pipeline, [1, 1, 2, 3, 4], [4], retries=1)
    assert kinds(edits) == [1, 1, 2, 3, 4]


def test_beside_unfaithful_ones(pipeline: Any, square: Image.Image) -> None:
    both = {"on_unfaithful": "retry", "preserve": [Objects([[0], ()])]}
    edits, seen = made(square, pipeline, [1, 2, 2, 3, 4], [5, 6], **both)
    assert (kinds(edits), edits.recipe["remade"]) == ([5, 2, 6, 3, 4], [[0, 2]])
    assert seen.kept == [[], [1, 3, 4]]
    # what fails is replaced whatever comes, what repeats is not
    both["preserve"] = [Objects([[0], [0, 2], [0]])]
    edits, _ = made(square, pipeline, [1, 2, 2, 3, 4], [5, 6], retries=1, **both)
    assert kinds(edits) == [5, 2, 2, 3, 4]


@pytest.mark.parametrize("agreeing", [[1, 1, 1, 2], [1, 1, 1, 1, 1, 2]])
def test_where_nearly_all_agree_none_is_made_again(pipeline: Any, square: Image.Image, agreeing: Sequence[int]) -> None:
    edits, _ = made(square, pipeline, agreeing)
    assert (kinds(edits), edits.recipe["agreed"], edits.recipe["rounds"]) == (agreeing, True, 0)


def test_two_that_agree_are_too_few_to_say_that_nothing_is_open(pipeline: Any, square: Image.Image) -> None:
    assert kinds(made(square, pipeline, [1, 1], [2])[0]) == [1, 2]


def test_a_stream_hands_a_repeat_over_when_it_was_made_again(pipeline: Any, square: Image.Image) -> None:
    strategy = Shows([1, 2, 1, 3], [4])
    stream = stream_edits(
        square, tiny.WORDS, 4, pipeline=pipeline, strategy=strategy, oversample=1, distinct="retry", **OPTIONS
    )
    assert [edit.index for edit in stream] == [0, 1, 3, 2]
    assert kinds(stream.edits) == [1, 2, 4, 3]


def test_none_is_made_again_unasked(pipeline: Any, square: Image.Image) -> None:
    edits, _ = made(square, pipeline, [1, 2, 1, 3], distinct="count")
    assert (kinds(edits), edits.distinct) == ([1, 2, 1, 3], 3)
    assert "agreed" not in edits.recipe


def test_another_wish_is_refused(pipeline: Any, square: Image.Image) -> None:
    with pytest.raises(InputError, match="distinct is 'maybe', but must be one of count, retry"):
        diverse_edit(square, tiny.WORDS, pipeline=pipeline, distinct="maybe", **OPTIONS)  # type: ignore[arg-type]
    options = {**OPTIONS, "prompt_embeds": torch.zeros(2, 5, 32), "pooled_prompt_embeds": torch.zeros(2, 32)}
    with pytest.raises(InputError, match="a retry makes fewer"):
        diverse_edit(square, tiny.WORDS, 2, pipeline=pipeline, distinct="retry", **options)


def test_distances_count_as_the_set_does(square: Image.Image) -> None:
    found = Distances.by_layout(shapes([1, 2, 1, 3, 2]))
    assert (found.repeats(), found.repeats(last=[0]), found.agreed) == ([2, 4], [0, 4], False)


def test_kontext_nano_makes_repeats_anew() -> None:
    photo = Image.fromarray(data.coffee()).crop((100, 50, 350, 300))
    options: dict[str, Any] = {"seed": 0, "oversample": 1, "progress": False}
    counted = diverse_edit(photo, "change the light", 4, **options)
    again = diverse_edit(photo, "change the light", 4, distinct="retry", **options)
    assert (counted.distinct, again.distinct) == (3, 4)
    assert sum(a.tobytes() == b.tobytes() for a, b in zip(counted.images, again.images, strict=True)) == 3
