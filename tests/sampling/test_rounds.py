"""Rounds of retrying: what is made again is repelled from the kept candidates, as if they were in the batch."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import tiny
import tiny_sd3
import torch
from conftest import both
from ctxrep_adapters.sd3_instruct import StableDiffusion3InstructPix2PixPipeline as InstructPipeline
from ctxrep_plugins.standard import Contextual
from PIL import Image
from tiny import SOME
from torch import Tensor

from ctxrep_edit import Case, Check, EditSet, Repulsion, Run, Strategy, Verdict, diverse_edit
from ctxrep_edit.repulsion.bank import Memory

edit = functools.partial(diverse_edit, instruction=tiny.WORDS, n=4, seed=5, steps=4, progress=False)


@dataclass
class Objects(Check):
    """Objects, in each round, to the candidates that it is told, and to none after that."""

    rounds: Sequence[Sequence[int]]
    seen: list[Tensor] = field(default_factory=list)

    name = "objects"
    summary = "objects"

    def verdicts(self, case: Case) -> list[Verdict]:
        bad = self.rounds[len(self.seen)] if len(self.seen) < len(self.rounds) else ()
        self.seen.append(case.edits)
        return [Verdict(i not in bad, "taste", 0.0, 0.0, "ugly") for i in range(len(case.edits))]


class Seen(Contextual):
    """Notes what each round was given and what it noted. forgetful: leaves the bank alone."""

    def __init__(self, forgetful: bool = False) -> None:
        self.forgetful = forgetful
        self.runs: list[tuple[int, Repulsion]] = []
        self.kept: list[list[int] | None] = []
        self.made: list[list[Memory]] = []

    def sample(self, run: Run) -> Tensor:
        self.runs.append((run.n, run.settings))
        self.kept.append(None if run.bank is None else [*run.bank.kept])
        bank, run.bank = run.bank, None if self.forgetful else run.bank
        images = super().sample(run)
        self.made.append([] if bank is None else bank.made)
        return images


def made_again(
    pipeline: Any, picture: Image.Image, *rounds: Sequence[int], strategy: Strategy | None = None, **options: Any
) -> EditSet:
    options = {"on_unfaithful": "retry", "repulsion": replace(SOME, anchor=True), **options}
    strategy = strategy or Contextual()
    return edit(picture, pipeline=pipeline, preserve=[Objects(rounds)], strategy=strategy, **options)


def same(one: EditSet, other: EditSet) -> list[bool]:
    return [a.tobytes() == b.tobytes() for a, b in zip(one.images, other.images, strict=True)]


def test_the_kept_ones_stay_and_the_new_ones_are_repelled_from_them(pipeline: Any, picture: Image.Image) -> None:
    flagged = made_again(pipeline, picture, [1], on_unfaithful="flag")
    seen, forgetful = Seen(), Seen(forgetful=True)
    edits = made_again(pipeline, picture, [1], strategy=seen)
    assert same(edits, flagged) == [True, False, True, True]
    assert [(n, given.anchor, given.strength) for n, given in seen.runs] == [(4, True, 1.0), (1, False, 1.0)]
    assert seen.kept == [[], [0, 2, 3]]
    assert [entry.strength for entry in edits] == [0.0, 1.0, 1.0, 1.0]
    without = made_again(pipeline, picture, [1], strategy=forgetful)
    assert [(n, given.anchor) for n, given in forgetful.runs] == [(4, True), (2, True)]  # the anchor runs along
    assert same(edits, without) == [True, False, True, True]
    plain = edit(picture, pipeline=pipeline, preserve="off", n=1, seed=edits[1].seed, strength=0)
    assert edits.images[1].tobytes() != plain.images[0].tobytes()
    assert edits.contextual_vendi == flagged.contextual_vendi


@both
def test_the_same_seed_gives_the_same_edits(pipeline: Any, picture: Image.Image) -> None:
    mask = Image.new("L", picture.size, 255)
    one, two = (made_again(pipeline, picture, [1, 2], [2], mask=mask) for _ in range(2))
    assert one.recipe["rounds"] == 2
    assert same(one, two) == [True] * 4


def test_where_none_is_made_again_nothing_changes(pipeline: Any, picture: Image.Image) -> None:
    assert same(made_again(pipeline, picture), made_again(pipeline, picture, on_unfaithful="flag")) == [True] * 4


@pytest.mark.parametrize("policy", ["flag", "drop"])
def test_nothing_is_remembered_without_a_retry(pipeline: Any, picture: Image.Image, policy: str) -> None:
    seen = Seen()
    made_again(pipeline, picture, [1], strategy=seen, on_unfaithful=policy, bank="off")
    assert (seen.kept, seen.made) == ([None], [[]])


def test_nothing_is_remembered_in_the_last_round(pipeline: Any, picture: Image.Image) -> None:
    seen = Seen()
    made_again(pipeline, picture, [1], [1, 2], [3], strategy=seen, retries=2, bank="off")
    assert seen.kept == [[], [0, 2, 3], [0, 3]]
    assert [len(made) for made in seen.made] == [4, 1, 0]
    places = {(step, 1, block, 0) for step in range(2) for block in range(4)}
    assert {frozenset(memory) for made in seen.made for memory in made} == {frozenset(places)}


def test_what_was_made_again_joins_and_what_is_replaced_leaves(pipeline: Any, picture: Image.Image) -> None:
    seen = Seen()
    made_again(pipeline, picture, [1], [2], [1], strategy=seen, retries=3)
    assert seen.kept == [[], [0, 2, 3], [0, 3, 1], [0, 3, 2]]


def test_an_unfaithful_anchor_is_made_again_as_one(pipeline: Any, picture: Image.Image) -> None:
    seen = Seen()
    edits = made_again(pipeline, picture, [0], strategy=seen)
    assert (seen.runs[1][0], seen.runs[1][1].anchor, seen.kept[1]) == (1, True, [1, 2, 3])
    assert (edits[0].seed, edits[0].strength) == (9, 0.0)
    plain = edit(picture, pipeline=pipeline, preserve="off", n=1, seed=9, strength=0)
    assert edits.images[0].tobytes() == plain.images[0].tobytes()
    both = made_again(pipeline, picture, [0, 2])
    assert [entry.strength for entry in both] == [0.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("n", [1, 3])
def test_where_all_are_unfaithful_they_repel_one_another_alone(pipeline: Any, picture: Image.Image, n: int) -> None:
    seen = Seen()
    edits = made_again(pipeline, picture, range(n), strategy=seen, n=n)
    assert (seen.kept, [run[0] for run in seen.runs]) == ([[], []], [n, n])
    assert same(edits, made_again(pipeline, picture, range(n), strategy=Seen(forgetful=True), n=n)) == [True] * n
    assert [entry.seed for entry in edits] == [5 + n + i for i in range(n)]
    assert [entry.strength for entry in edits] == [0.0, 1.0, 1.0][:n]


def test_plain_edits_are_made_again_by_themselves(pipeline: Any, picture: Image.Image) -> None:
    seen: list[int] = []
    handle = pipeline.transformer.register_forward_pre_hook(
        lambda module, args, call: seen.append(len(call["hidden_states"])), with_kwargs=True
    )
    edits = made_again(pipeline, picture, [1, 3], repulsion=replace(SOME, strength=0.0))
    handle.remove()
    assert seen == [4] * 4 + [2] * 4
    assert [entry.strength for entry in edits] == [0.0] * 4


def test_an_exception_while_made_again_leaves_nothing(pipeline: Any, picture: Image.Image) -> None:
    """The fixture looks for what is left."""
    steps: list[int] = []

    def stop(step: int, of: int) -> None:
        steps.append(step)
        if len(steps) == 5:
            raise KeyboardInterrupt

    plain = tiny.run(pipeline, picture)
    with pytest.raises(KeyboardInterrupt):
        made_again(pipeline, picture, [1], on_step=stop)
    assert torch.equal(tiny.run(pipeline, picture), plain)


@pytest.mark.parametrize("guidance", ["conditional", "both"])
def test_three_parts_of_guidance(picture: Image.Image, guidance: Any) -> None:
    pipe, seen = tiny_sd3.pipeline(InstructPipeline), Seen()
    options = {"guidance_scale": 3.0, "image_guidance_scale": 1.5, "width": 48, "height": 32, "n": 3}
    given = Repulsion(scope="generated", steps=2, guidance=guidance, anchor=True)
    edits = made_again(
        pipe, picture, [1], strategy=seen, repulsion=given, max_sequence_length=tiny.LENGTH, **options
    )  # fmt: skip
    groups = (0,) if guidance == "conditional" else (0, 1, 2)
    places = {(step, 1, block, group) for step in range(2) for block in range(2) for group in groups}
    assert set(seen.made[0][0]) == places
    assert seen.kept == [[], [0, 2]]
    assert edits.recipe["rounds"] == 1
