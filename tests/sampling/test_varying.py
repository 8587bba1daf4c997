"""Sets whose edits are asked for one value each: what they are told, that they repel, and how they go on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import command_line
import pytest
import tiny
import tiny_qwen
import tiny_sd3
import torch
from conftest import both
from PIL import Image
from tiny import SOME, edit

from ctxrep_edit import (
    Case,
    Check,
    EditSet,
    InputError,
    OutsideItsWorld,
    Repulsion,
    TruncatedInstruction,
    Verdict,
    diverse_edit,
    stream_edits,
)
from ctxrep_edit.sampling.varying import Wordings

SIX = replace(SOME, anchor=True)
ASKED = "add a {} frame"
COLOURS = ["red", "blue"]
REDS = ["add a red frame", "add a blue frame", "add a red frame"]


def made(picture: Image.Image, pipeline: Any, instruction: str = ASKED, **options: Any) -> EditSet:
    options = {"repulsion": SIX, "vary": COLOURS, **options}
    return edit(picture, instruction=instruction, pipeline=pipeline, **options)


def as_bytes(edits: EditSet) -> list[bytes]:
    return [image.tobytes() for image in edits.images]


class Told(Check):
    """Keeps what each edit was asked for, and objects once to those that it is told."""

    name, summary = "told", "what edits were asked for"

    def __init__(self, *bad: int) -> None:
        self.bad, self.told = bad, list[list[str]]()

    def verdicts(self, case: Case) -> Sequence[Verdict]:
        bad = () if self.told else self.bad
        self.told.append(case.instructions)
        return [Verdict(i not in bad, "taste", 0.0, 0.0, "ugly") for i in range(len(case.edits))]


# What they are told


def test_where_a_value_goes() -> None:
    assert [Wordings(ASKED, ("red", "blue")).said(i) for i in range(3)] == REDS
    assert Wordings("frame it", ("red", "blue")).all == ["frame it, red", "frame it, blue"]
    assert Wordings("a {}, {}!", ("cat", "dog")).said(1) == "a dog, dog!"
    assert (Wordings(ASKED).all, Wordings(ASKED).value(0), len(Wordings(ASKED))) == ([ASKED], None, 1)


@both
def test_plain_ones_are_those_of_their_own_words(pipeline: Any, picture: Image.Image) -> None:
    mask = Image.new("L", picture.size, 255) if "Inpaint" in type(pipeline).__name__ else None
    edits = made(picture, pipeline, strength=0, mask=mask)
    alone = [
        edit(picture, pipeline=pipeline, instruction=words, n=1, seed=seed, strength=0, mask=mask)[0]
        for seed, words in enumerate(REDS)
    ]
    assert as_bytes(edits) == [one.image.tobytes() for one in alone]
    assert [(one.value, one.label) for one in edits] == [
        ("red", "red, seed 0"), ("blue", "blue, seed 1"), ("red", "red, seed 2")
    ]  # fmt: skip
    assert (edits.instruction, edits.recipe["vary"], edits.recipe["batches"]) == (ASKED, COLOURS, [[0], [1], [2]])


@pytest.mark.parametrize("options", [{}, {"oversample": 2}, {"scope": "context"}, {"scope": "pooled"}], ids=str)
def test_they_repel_one_another(pipeline: Any, picture: Image.Image, options: dict[str, Any]) -> None:
    """Also where the words of one are more than those of another, which has fewer tokens to be repelled by."""
    values = ["red", "a bit of red"]
    edits = made(picture, pipeline, "{}", vary=values, **options)
    apart = made(picture, pipeline, "{}", vary=values, strength=0)
    assert as_bytes(edits)[0] == as_bytes(apart)[0]
    assert all(one != other for one, other in zip(as_bytes(edits)[1:], as_bytes(apart)[1:], strict=True))
    assert edits.contextual_vendi is not None
    assert 1 < edits.contextual_vendi[0] < edits.contextual_vendi[1] <= 3
    again = made(picture, pipeline, "{}", vary=edits.recipe["vary"], **options)
    assert as_bytes(again) == as_bytes(edits)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_qwen.small(monkeypatch)


@pytest.mark.parametrize("family", [tiny_qwen.pipeline, lambda: tiny_sd3.pipeline(tiny_sd3.CLASSES[3])])
def test_other_families(small: None, picture: Image.Image, family: Any) -> None:
    """Qwen's texts are as long as their words; Stable Diffusion 3 stacks the guidance's."""
    pipeline = family()
    options: dict[str, Any] = {"pipeline": pipeline, "steps": 2, "preserve": "off", "progress": False, "seed": 0}
    edits, plain = (
        diverse_edit(picture, ASKED, 3, vary=["red", "pale blue and white"], strength=strength, **options)
        for strength in (1.0, 0)
    )
    assert [one != other for one, other in zip(as_bytes(edits), as_bytes(plain), strict=True)] == [False, True, True]


def test_no_more_start_than_are_wanted(pipeline: Any, picture: Image.Image) -> None:
    """Of two that start for each value one would be thrown away; who wants that says so."""
    unsaid = Repulsion(scope="generated", strength=1.0, steps=2)
    assert made(picture, pipeline, repulsion=unsaid).recipe["repulsion"]["oversample"] == 1
    for more in ({"oversample": 2}, {"repulsion": replace(unsaid, oversample=2)}):
        edits = made(picture, pipeline, **{"repulsion": unsaid, **more})
        assert (edits.recipe["repulsion"]["oversample"], len(edits.recipe["started"])) == (2, 6)


def test_checks_are_told_what_each_was_asked_for(pipeline: Any, picture: Image.Image) -> None:
    told = Told()
    made(picture, pipeline, preserve=[told])
    assert told.told[-1] == REDS
    edit(picture, pipeline=pipeline, repulsion=SIX, preserve=[told])
    assert told.told[-1] == [tiny.WORDS] * 3


def test_what_the_embedded_world_knows(picture: Image.Image, recwarn: pytest.WarningsRecorder) -> None:
    """Each value is a wording of its own, of which it is known whether the model was taught it."""
    options: dict[str, Any] = {"n": 2, "steps": 4, "seed": 0, "progress": False, "distinct": "count"}
    edits = diverse_edit(picture, ASKED, vary=COLOURS, **options)
    assert all("right-answer" in one.verdicts for one in edits)
    assert not [warning for warning in recwarn if issubclass(warning.category, OutsideItsWorld)]
    with pytest.warns(OutsideItsWorld, match="was not taught 'add a mauve frame'"):
        diverse_edit(picture, ASKED, vary=["red", "mauve"], preserve="off", **options)


def test_words_that_are_not_read(pipeline: Any, picture: Image.Image) -> None:
    with pytest.warns(TruncatedInstruction, match="rococo"):
        made(picture, pipeline, vary=["red", " ".join(["very"] * 20) + " rococo"], strength=0, max_sequence_length=8)


# How they go on


def test_made_again_by_their_own_words(pipeline: Any, picture: Image.Image) -> None:
    told = Told(1)
    edits = made(picture, pipeline, preserve=[told], on_unfaithful="retry")
    first = made(picture, pipeline)
    assert edits.recipe["remade"] == [[1]]
    assert [one.value for one in edits] == ["red", "blue", "red"]
    assert as_bytes(edits)[::2] == as_bytes(first)[::2]
    assert as_bytes(edits)[1] != as_bytes(first)[1]
    assert told.told[-1] == REDS


def test_a_stream(pipeline: Any, picture: Image.Image) -> None:
    options = {"pipeline": pipeline, "repulsion": SIX, "preserve": "off", "progress": False}
    stream = stream_edits(picture, ASKED, 3, seed=0, vary=COLOURS, **options)
    assert [(one.index, one.value) for one in stream] == [(0, "red"), (1, "blue"), (2, "red")]
    assert as_bytes(stream.edits) == as_bytes(made(picture, pipeline))


def test_more_and_steering(pipeline: Any, picture: Image.Image) -> None:
    first = made(picture, pipeline)
    more = first.more(2, progress=False)
    assert [(one.value, one.seed) for one in more] == [("red", 3), ("blue", 4)]
    assert as_bytes(more) != as_bytes(made(picture, pipeline, n=2, seed=3, strength=0))
    assert [one.value for one in first + more] == ["red", "blue", "red", "red", "blue"]
    walk = first.between(0, 2, 3, progress=False)
    assert (as_bytes(walk)[0], as_bytes(walk)[2]) == (as_bytes(first)[0], as_bytes(first)[2])
    assert (walk.instruction, "vary" in walk.recipe) == ("add a red frame", False)
    assert as_bytes(first.like(1, 1, spread=0, progress=False)) == as_bytes(first)[1:2]
    with pytest.raises(InputError, match="Edit 2 was made with another instruction"):
        first.between(0, 1, progress=False)
    with pytest.raises(InputError, match="unlike: edit 1 was made with another instruction"):
        made(picture, pipeline, vary=["green", "white"], unlike=[first[0]])


def test_saved_loaded_and_shown(folder: Path, picture: Image.Image, tmp_path: Path) -> None:
    edits = edit(picture, instruction=ASKED, model=folder, vary=COLOURS, repulsion=SIX)
    edits.save(tmp_path, ["png", "json", "report"], bank=True)
    again = EditSet.load(tmp_path)
    assert [one.value for one in again] == ["red", "blue", "red"]
    assert "edit 2, blue, seed 1" in (tmp_path / "report.html").read_text()
    assert as_bytes(again.more(2, progress=False)) == as_bytes(edits.more(2, progress=False))
    assert as_bytes(again.like(1, 1, spread=0, progress=False)) == as_bytes(edits)[1:2]


def test_the_command(photo: Path, folder: Path, tmp_path: Path) -> None:
    options = ["-n", 2, "--model", folder, "--seed", 0, "--no-check", "-o", tmp_path / "out"]
    result = command_line.call(photo, ASKED, "--vary", "red, blue", *options)
    assert result.exit_code == 0, result.output
    assert "asked for" in result.stdout
    stated = json.loads((tmp_path / "out" / "edits.json").read_text())
    assert [one["value"] for one in stated["edits"]] == stated["recipe"]["vary"] == COLOURS
    wrong = command_line.call(photo, ASKED, "--vary", "red", *options)
    assert (wrong.exit_code, "must be a list of values, two at least" in wrong.output) == (1, True)


# What does not go together


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"vary": "colour"}, r"vary is 'colour', but must be a list of values.*An attribute by its name alone cannot"),
        ({"vary": []}, "must be a list of values, two at least"),
        ({"vary": ["red"]}, "a single value is said in the instruction"),
        ({"vary": ["red", " "]}, r"vary has the value ' ', but each must be some words"),
        ({"vary": ["red", 3]}, "vary has the value 3, but each"),
        ({"vary": ["red", "blue", "red "]}, "vary names 'red' more than once"),
        ({"vary": ["red", "blue", "green", "white"]}, "vary names 4 values, but n is 3: ask for at least 4 edits"),
        ({"batch_size": 2}, "batch_size is 2, but with vary each candidate has words of its own"),
        ({"strategy": "cads", "repulsion": None}, "With vary each candidate is made by itself, but cads knows nothing"),
        ({"group": SimpleNamespace()}, "vary does not go with group, which is made otherwise: leave one of them out"),
        ({"prompt_2": "a frame"}, "vary does not go with prompt_2, which says itself what is asked for"),
        ({"prompt_embeds": torch.zeros(1, 4, 32)}, "vary does not go with prompt_embeds"),
    ],
    ids=str,
)
def test_refused(pipeline: Any, picture: Image.Image, options: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=why):
        made(picture, pipeline, **options)


def test_not_beside_like(pipeline: Any, picture: Image.Image) -> None:
    liked = made(picture, pipeline, vary=None, instruction=tiny.WORDS)[0]
    with pytest.raises(InputError, match="vary does not go with like, which is made otherwise"):
        made(picture, pipeline, like=liked)
