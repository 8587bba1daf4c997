"""Walks between edits and variations of one: at once, in batches, from files, and what does not go together."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import command_line
import numpy as np
import pytest
import tiny
import torch
from conftest import both
from PIL import Image
from tiny import SOME, edit, pixels

from ctxrep_edit import EditSet, InputError, ModelError, Strategy, assess, diverse_edit, load_pipeline, stream_edits
from ctxrep_edit.sampling.noise import Drawn, turned

SIX = replace(SOME, anchor=True)
CHURNED = replace(SIX, churn=1.0)
HELD = replace(SIX, steps=None, window=0.8, hold=0.4)


def made(picture: Image.Image, pipeline: Any, **options: Any) -> EditSet:
    return edit(picture, pipeline=pipeline, **{"repulsion": SIX, **options})


def as_bytes(edits: EditSet) -> list[bytes]:
    return [image.tobytes() for image in edits.images]


def off(one: EditSet, other: np.ndarray) -> float:
    """How far its pictures are from one picture, in grey levels."""
    return float(np.abs(pixels(one).astype(float) - other).mean())


# Between and beyond


@both
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batch_size": 1},
        {"oversample": 2},
        {"scope": "pooled"},
        {"repulsion": CHURNED, "steps": 8},
        {"repulsion": HELD},
    ],
    ids=str,
)
def test_the_ends_of_a_walk_are_the_edits(pipeline: Any, picture: Image.Image, options: dict[str, Any]) -> None:
    mask = Image.new("L", picture.size, 255) if "Inpaint" in type(pipeline).__name__ else None
    first = made(picture, pipeline, mask=mask, **options)
    walk = first.between(2, 1, 3, progress=False)
    assert (as_bytes(walk)[0], as_bytes(walk)[2]) == (as_bytes(first)[2], as_bytes(first)[1])
    assert len({*as_bytes(walk)}) == 3
    assert [entry.seed for entry in walk] == [first[2].seed, None, first[1].seed]
    assert walk.recipe["walk"] == {"seeds": [first[2].seed, first[1].seed], "shares": [0.0, 0.5, 1.0]}
    assert walk.recipe["strategy"] == "between"


def test_another_family(picture: Image.Image) -> None:
    """sd3-nano moves other tokens, and some of its blocks return none."""
    pipeline = load_pipeline("sd3-nano", progress=False)
    first = diverse_edit(
        picture, "add a sticker", 3, pipeline=pipeline, seed=0, steps=4, preserve="off", progress=False
    )
    walk = first.between(1, 2, 2, progress=False)
    assert as_bytes(walk) == as_bytes(first)[1:]


@pytest.mark.parametrize(("go", "of"), [("between", (1, 2, 3)), ("like", (1, 3)), ("more", (3,))])
def test_each_edit_is_told_as_it_is_made(go: str, of: tuple[int, ...], pipeline: Any, picture: Image.Image) -> None:
    first, told, steps = made(picture, pipeline, batch_size=1), list[Any](), list[int]()
    again = getattr(first, go)(
        *of, progress=False, on_edit=lambda edit: told.append((len(steps), edit)), on_step=lambda *step: steps.append(1)
    )
    assert as_bytes(again) == as_bytes(getattr(first, go)(*of, progress=False))
    for (_, one), other in zip(told, again, strict=True):
        assert one.image.tobytes() == other.image.tobytes()
        assert (one.index, one.seed) == (other.index, other.seed)
    times = [when for when, _ in told]
    assert times[0] < times[1] < times[2] == len(steps)


def test_a_walk_may_go_past_the_second_edit(pipeline: Any, picture: Image.Image) -> None:
    first = made(picture, pipeline)
    walk = first.between(first[0], -1, 4, beyond=0.5, progress=False)
    assert walk.recipe["walk"]["shares"] == [0.0, 0.5, 1.0, 1.5]
    assert as_bytes(walk)[2] == as_bytes(first)[2]
    assert len({*as_bytes(walk)}) == 4


def test_from_the_middle_of_a_walk(pipeline: Any, picture: Image.Image) -> None:
    """Its noise lies between two seeds, too."""
    first = made(picture, pipeline)
    walk = first.between(1, 2, 3, progress=False)
    again = walk.between(1, 2, 3, progress=False)
    assert (as_bytes(again)[0], as_bytes(again)[2]) == (as_bytes(walk)[1], as_bytes(walk)[2])
    assert as_bytes(walk.like(1, 1, spread=0, progress=False)) == as_bytes(walk)[1:2]
    more = walk.more(1, progress=False)
    assert [entry.seed for entry in more] == [3]
    assert more.recipe["strategy"] == "contextual"


# Like this


@both
def test_spread_goes_from_the_edit_to_todays_set(pipeline: Any, picture: Image.Image) -> None:
    mask = Image.new("L", picture.size, 255) if "Inpaint" in type(pipeline).__name__ else None
    first = made(picture, pipeline, mask=mask)
    liked = pixels(first)[1]
    sets = [first.like(1, 2, spread=spread, progress=False) for spread in (0, 0.3, 1)]
    assert as_bytes(sets[0]) == as_bytes(first)[1:2] * 2
    assert as_bytes(sets[2]) == as_bytes(made(picture, pipeline, n=2, seed=3, mask=mask))
    assert 0 == off(sets[0], liked) < off(sets[1], liked) < off(sets[2], liked)
    assert len({*as_bytes(sets[1])}) == 2
    assert (sets[1].recipe["strategy"], sets[1].recipe["like"], sets[1].recipe["spread"]) == ("like", 1, 0.3)
    asked = made(picture, pipeline, n=2, seed=3, mask=mask, like=first[1], spread=0.3)
    assert as_bytes(asked) == as_bytes(sets[1])


def test_a_stream_of_variations(pipeline: Any, picture: Image.Image) -> None:
    first = made(picture, pipeline)
    options = {"pipeline": pipeline, "repulsion": SIX, "preserve": "off", "progress": False}
    stream = stream_edits(picture, tiny.WORDS, 2, seed=3, like=first[1], spread=0, **options)
    assert [entry.image.tobytes() for entry in stream] == as_bytes(first)[1:2] * 2
    assert stream.edits.like(0, 1, spread=1, progress=False)[0].seed == 5


def test_variations_in_batches_are_repelled_from_those_before(pipeline: Any, picture: Image.Image) -> None:
    first = made(picture, pipeline, batch_size=1)
    two = first.like(1, 2, spread=0.3, progress=False)
    assert two.recipe["batches"] == [[0], [1]]
    alone = made(picture, pipeline, n=1, seed=4, like=first[1], spread=0.3)
    assert as_bytes(two)[1] != as_bytes(alone)[0]


# In files


def test_a_saved_walk_can_be_steered_by(folder: Path, picture: Image.Image, tmp_path: Path) -> None:
    edits = diverse_edit(picture, tiny.WORDS, 3, model=folder, seed=0, preserve="off", repulsion=SIX, progress=False)
    walk = edits.between(0, 2, 3, progress=False)
    walk.save(tmp_path, ["png", "json", "report"], bank=True)
    again = EditSet.load(tmp_path)
    assert as_bytes(again.like(1, 1, spread=0, progress=False)) == as_bytes(walk)[1:2]
    page = (tmp_path / "report.html").read_text()
    assert '<div class="grid strip">' in page
    assert "edit 2, 0.50 of the way" in page
    assert "edit 3, 1.00 of the way, seed 2" in page


def test_the_commands(folder: Path, picture: Image.Image, tmp_path: Path) -> None:
    edits = diverse_edit(picture, tiny.WORDS, 3, model=folder, seed=0, preserve="off", repulsion=SIX, progress=False)
    edits.save(tmp_path, bank=True)
    result = command_line.call("between", tmp_path, 1, 3, "-n", 3, "--beyond", 0.5)
    assert result.exit_code == 0, result.output
    assert "None" not in result.stdout  # of a seed
    assert f"written into {tmp_path / '2'}" in result.output
    assert EditSet.load(tmp_path / "2").recipe["walk"]["shares"] == [0.0, 0.75, 1.5]
    result = command_line.call("like", tmp_path, 2, "-n", 1, "--spread", 0, "--json")
    assert json.loads(result.stdout)["recipe"]["spread"] == 0
    assert off(EditSet.load(tmp_path / "3"), pixels(edits)[1]) < 1  # alone it is rounded otherwise
    result = command_line.call("like", tmp_path, 4)
    assert (result.exit_code, "There is no edit 4: the set has edits 1 to 3" in result.output) == (1, True)
    assert command_line.call("like", tmp_path, 1, "--spread", 1.5).exit_code == 2
    result = command_line.call("between", tmp_path, 1, 1)
    assert (result.exit_code, "Both ends of the walk are edit 1, so" in result.output) == (1, True)
    for command in (["like", tmp_path / "edit-2.png", 1], ["more", tmp_path / "sheet.png"], ["more", tmp_path / "no"]):
        result = command_line.call(*command)
        assert (result.exit_code, f"FOLDER is '{command[1]}', which is no folder" in result.output) == (1, True)


# What does not go together


def test_places_and_numbers_out_of_range(pipeline: Any, picture: Image.Image) -> None:
    first = made(picture, pipeline)
    for wrong in (3, -4, True, "1", None):
        with pytest.raises(InputError, match=r"names no edit: give its place in this set, from 0 to 2, or the edit"):
            first.between(0, wrong)
        with pytest.raises(InputError, match="names no edit"):
            first.like(wrong)
    for same in (1, -2, first[1]):
        with pytest.raises(InputError, match=r"^Both ends of the walk are edit 2, so that there is nothing between"):
            first.between(1, same)
    for wrong in (1, 0, 2.5):
        with pytest.raises(InputError, match=r"count is .*, but must be a whole number of edits, both ends among them"):
            first.between(0, 1, wrong)
    for wrong in (-0.1, 1.1, float("nan"), "far"):
        with pytest.raises(InputError, match=r"beyond is .*, but must be a number from 0 to 1"):
            first.between(0, 1, beyond=wrong)
        with pytest.raises(InputError, match=r"spread is .*, but must be a number from 0, the edit itself, to 1"):
            first.like(1, spread=wrong)


def test_edits_of_another_picture_model_or_size(pipeline: Any, picture: Image.Image) -> None:
    first, turned_one = made(picture, pipeline), made(picture.rotate(180), pipeline)
    with pytest.raises(InputError, match="between: edit 2 was made with another picture, so"):
        first.between(0, turned_one[1], progress=False)
    with pytest.raises(InputError, match="edit 2 was made with another picture"):
        first.like(turned_one[1], progress=False)
    with pytest.raises(InputError, match="edit 1 was made with another size"):
        made(picture, pipeline, like=first[0], width=32)
    weight = next(pipeline.transformer.parameters())
    weight.data += 0.01
    with pytest.raises(InputError, match="edit 1 was made with another weights"):
        first.between(0, 1, progress=False)
    weight.data -= 0.01


def test_edits_that_left_no_tokens(pipeline: Any, picture: Image.Image) -> None:
    for edits in (made(picture, pipeline, strength=0), made(picture, pipeline, bank="off")):
        with pytest.raises(InputError, match="has left no contextual tokens to be moved by"):
            made(picture, pipeline, like=edits[0])
    with pytest.raises(InputError, match="has left no contextual tokens to be moved by"):
        made(picture, pipeline, bank="off").between(0, 1, progress=False)
    with pytest.raises(InputError, match="This set cannot be continued"):
        assess(picture, [picture, picture], checks=[]).between(0, 1)


def test_like_beside_what_it_does_not_go_with(pipeline: Any, picture: Image.Image) -> None:
    liked = made(picture, pipeline)[1]
    for options, why in [
        ({"like": picture}, "must be an edit of such a set"),
        ({"like": np.zeros((8, 8, 3))}, "must be an edit of such a set"),
        ({"spread": 0.5}, "says how far from like= the edits may be: give like, too"),
        ({"like": liked, "strength": 0}, "which strength 0 switches off"),
        ({"like": liked, "strategy": "cads", "repulsion": None}, "but the strategy is cads: leave one of them out"),
        ({"like": liked, "group": SimpleNamespace()}, "are made without like: leave it out"),
    ]:
        with pytest.raises(InputError, match=why):
            made(picture, pipeline, **options)


def test_a_pipeline_that_draws_no_noise(pipeline: Any, picture: Image.Image) -> None:
    """As one would that makes its noise itself, by the seed of the whole."""
    seen: list[torch.Tensor] = []

    def note(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        seen.append(tensors["latents"])
        return tensors

    first = made(picture, pipeline, callback_on_step_end=note)
    latents = seen[0][:1]
    with pytest.raises(ModelError, match="does not draw its noise by one generator for each candidate"):
        made(picture, pipeline, n=1, like=first[1], latents=latents)


# Noise


def test_noise_on_the_arc() -> None:
    one, other = (torch.randn(3, 4, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    assert turned(one, other, 0) is one
    assert turned(one, other, 1) is other
    assert turned(one, one, 0.5) is one
    half = turned(one, other, 0.5).double()
    torch.testing.assert_close(half.norm(), (one.norm() + other.norm()).double() / 2)
    unit = [some.double() / some.norm() for some in (one, other)]
    torch.testing.assert_close((half * unit[0]).sum(), (half * unit[1]).sum())
    assert turned(one.bfloat16(), other.bfloat16(), 0.3).dtype == torch.bfloat16


def test_noise_is_drawn_in_turn_and_other_draws_are_as_ever() -> None:
    mine, other = torch.Generator().manual_seed(5), torch.Generator().manual_seed(6)
    drawn = Drawn({mine: (7, (7, 8, 0.5), 1)})
    with drawn:
        got = [torch.randn(2, 3, generator=mine) for _ in range(2)]
        plain = torch.randn(2, 3, generator=other)
    seven, eight = (torch.Generator().manual_seed(seed) for seed in (7, 8))
    expected = [turned(torch.randn(2, 3, generator=seven), torch.randn(2, 3, generator=eight), 0.5) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
    assert torch.equal(plain, torch.randn(2, 3, generator=torch.Generator().manual_seed(6)))
    drawn.check(None)


def test_strategies_of_others_may_steer(pipeline: Any, picture: Image.Image) -> None:
    """By what `repelled` takes: here all candidates have the tokens of the first."""

    class Follow(Strategy):
        name, summary, repels = "follow", "all have the tokens of the first", True

        def sample(self, run: Any) -> torch.Tensor:
            from ctxrep_edit import repelled

            def steer(place: Any, parts: Any) -> Any:
                return [replace(part, tokens=part.put(part.selected[:1].expand_as(part.selected))) for part in parts]

            with repelled(run.pipeline, run.settings, particles=run.n, instruction=run.instruction, steer=steer):
                return run.call()

    edits, plain = (made(picture, pipeline, **some) for some in ({"strategy": Follow()}, {"strength": 0}))
    assert as_bytes(edits)[0] == as_bytes(plain)[0]
    assert as_bytes(edits)[1] != as_bytes(plain)[1]
