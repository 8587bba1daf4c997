"""Repulsion from finished candidates: as if they were in the batch, without them being there."""

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
from ctxrep_adapters.flux_kontext import FluxKontext
from ctxrep_adapters.sd3_instruct import StableDiffusion3InstructPix2PixPipeline as InstructPipeline
from ctxrep_plugins.standard import Contextual
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from ctxrep_edit import (
    Case,
    Check,
    EditSet,
    Repulsion,
    RepulsionError,
    Run,
    Strategy,
    Verdict,
    diverse_edit,
    repelled,
)
from ctxrep_edit.repulsion.ascent import repel
from ctxrep_edit.repulsion.bank import Bank, Memory
from ctxrep_edit.repulsion.clock import Clock
from ctxrep_edit.repulsion.hooks import Attachment, _Repel

HERE = (0, 1, 0, 0)
SOME = Repulsion(scope="generated", strength=1.0, steps=2)
edit = functools.partial(diverse_edit, instruction=tiny.WORDS, n=4, seed=5, steps=4, progress=False)


def tokens(n: int, length: int = 6, dim: int = 5, seed: int = 0) -> Tensor:
    """A common vector plus noise, as contextual tokens are: (n, length, dim)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, length, dim, generator=generator) + 0.3 * torch.randn(n, length, dim, generator=generator)


def filled(particles: Tensor, mask: Tensor | None = None) -> Bank:
    """A bank that keeps these particles."""
    bank = Bank()
    bank.repel(HERE, particles, mask=mask, fixed=0, strength=1.0)
    bank.join(range(len(particles)))
    return bank


# The mathematics


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    kept=st.integers(1, 4),
    new=st.integers(1, 4),
    objective=st.sampled_from(["entropy", "renyi2"]),
    keep_norm=st.booleans(),
    masked=st.booleans(),
    anchor=st.booleans(),
    seed=st.integers(0, 2**31 - 1),
)
def test_it_is_the_joint_step_with_the_kept_ones_fixed(
    kept: int, new: int, objective: Any, keep_norm: bool, masked: bool, anchor: bool, seed: int
) -> None:
    everyone = tokens(kept + new, seed=seed)
    mask = torch.tensor([True, False, True, True, False, True]) if masked else None
    options = {"strength": 1.0, "objective": objective, "keep_norm": keep_norm, "mask": mask}
    joint = repel(everyone, fixed=kept + anchor, **options)
    step = filled(everyone[:kept], mask).repel(HERE, everyone[kept:], fixed=int(anchor), **options)
    assert torch.equal(step.tokens, joint.tokens[kept:])
    assert (step.vendi_before, step.vendi_after) == (joint.vendi_before, joint.vendi_after)
    assert torch.equal(step.tokens, everyone[kept:]) == (new == anchor)


def test_an_empty_bank_changes_nothing() -> None:
    some = tokens(3)
    step, alone = Bank().repel(HERE, some, mask=None, fixed=1, strength=1.0), repel(some, fixed=1, strength=1.0)
    assert torch.equal(step.tokens, alone.tokens)
    assert (step.vendi_before, step.vendi_after) == (alone.vendi_before, alone.vendi_after)


# What it remembers


@pytest.mark.parametrize("masked", [False, True])
def test_the_selected_tokens_before_the_step_are_kept_in_their_dtype_each_by_itself(masked: bool) -> None:
    mask = torch.tensor([True, False, True, False, False, True]) if masked else torch.ones(6, dtype=torch.bool)
    some = tokens(3).bfloat16()
    before = some.clone()
    bank = filled(some, mask if masked else None)
    some.zero_()
    for memory, row in zip(bank.kept.values(), before, strict=True):
        noted = memory[HERE]
        assert (noted.dtype, noted.device.type) == (torch.bfloat16, "cpu")
        assert torch.equal(noted, row[mask])
        assert noted.untyped_storage().nbytes() == noted.nbytes  # so that forgetting one frees it


def test_candidates_come_and_go() -> None:
    bank = filled(tokens(3))
    first = dict(bank.kept)
    bank.leave([1])
    bank.repel(HERE, tokens(1, seed=1), mask=None, fixed=0, strength=1.0)
    bank.join([1])
    assert [*bank.kept] == [0, 2, 1]
    assert (bank.kept[0], bank.kept[2]) == (first[0], first[2])
    assert not torch.equal(bank.kept[1][HERE], first[1][HERE])
    bank.noting = False
    bank.repel(HERE, tokens(2, seed=2), mask=None, fixed=0, strength=1.0)
    bank.join([0, 1])
    assert (len(bank), bank.made) == (3, [])


def test_what_does_not_fit_is_an_error() -> None:
    bank = filled(tokens(2))
    with pytest.raises(
        RepulsionError, match=r"have \(7, 5\) \(tokens, dim\).*the bank has \(6, 5\) of kept candidate 0"
    ):
        bank.repel(HERE, tokens(2, length=7), mask=None, fixed=0, strength=1.0)
    with pytest.raises(RepulsionError, match="hooked block 3 in step 1, but the bank has none of it: make new"):
        bank.repel((1, 1, 3, 0), tokens(2), mask=None, fixed=0, strength=1.0)
    with pytest.raises(RepulsionError, match=r"noted 2 particles, but 3 candidates were made.*particles=run\.n"):
        bank.join([0, 1, 2])


# In the hooks


PARTS = {
    "alone": ("conditional",),
    "pair": ("unconditional", "conditional"),
    "triple": ("conditional", "unconditional", "unconditional"),
}


@pytest.mark.parametrize("anchor", [False, True])
@pytest.mark.parametrize("joint", [False, True], ids=["streams", "joint"])
@pytest.mark.parametrize("guidance", ["conditional", "both"])
@pytest.mark.parametrize("parts", PARTS)
def test_the_parts_of_a_batch_and_joint_blocks(parts: str, guidance: Any, joint: bool, anchor: bool) -> None:
    """Against one step per part, with the kept ones as fixed particles of it."""
    family = type("Family", (FluxKontext,), {"guidance": PARTS[parts]})()
    words, bank, size = torch.tensor([True, True, False]), Bank(), len(PARTS[parts])
    chosen = frozenset({"instruction", "generated"})
    everyone = tokens(5 * size, length=7).unflatten(0, (size, 5))  # (parts, 2 kept + 3 new, 3 text + 4 image, dim)

    def block(some: Tensor, anchor: bool) -> Tensor:
        """What the hook makes of (parts, n, tokens, dim)."""
        given = replace(SOME, guidance=guidance, anchor=anchor)
        run = Attachment(family, given, some.shape[1], words, Clock(family, lambda: True), bank)
        batch = some.flatten(0, 1)  # (parts * n, tokens, dim)
        text, image = batch[:, :3], batch[:, 3:]
        ids = torch.tensor([[0.0], [0.0], [0.0], [1.0]]).expand(4, 3)  # the last token is of the reference
        run.begin(None, (), {"timestep": torch.ones(1), "hidden_states": image, "img_ids": ids})
        run._text = 3
        hook = _Repel(run, "joint" if joint else ("text", "image"), chosen, 0)
        out = hook.post_forward(None, batch if joint else (text, image))
        return (out if joint else torch.cat(out, 1)).unflatten(0, some.shape[:2])

    block(everyone[:, :2], False)
    bank.join([0, 1])
    moved = block(everyone[:, 2:], anchor)
    selected = torch.tensor([True, True, False, True, True, True, False])
    for part, had, got in zip(PARTS[parts], everyone, moved, strict=True):
        if part == "unconditional" and guidance == "conditional":
            assert torch.equal(got, had[2:])
        else:
            assert torch.equal(got, repel(had, strength=1.0, mask=selected, fixed=2 + anchor).tokens[2:])
            assert torch.equal(got[0], had[2]) == anchor


@pytest.mark.parametrize("guidance", ["conditional", "both"])
def test_guidance_in_two_calls(pipeline: Any, picture: Image.Image, guidance: Any) -> None:
    given, bank = replace(SOME, guidance=guidance), Bank()
    options = {"negative_prompt": "add a frame", "true_cfg_scale": 2.0}
    alone = tiny.run(pipeline, picture, 1, first=9, **options)
    with repelled(pipeline, given, particles=2, bank=bank):
        tiny.run(pipeline, picture, 2, **options)
    calls = [1] if guidance == "conditional" else [1, 2]
    places = {(step, call, block, 0) for step in range(2) for call in calls for block in range(4)}
    assert [set(memory) for memory in bank.made] == [places, places]
    bank.join([0, 1])
    with repelled(pipeline, given, particles=1, bank=bank) as run:
        assert not torch.equal(tiny.run(pipeline, picture, 1, first=9, **options), alone)
    assert len(run.vendi) == len(places)
    assert all(1 < before < after <= 3 for before, after in run.vendi)


def test_another_size_is_an_error_that_leaves_no_trace(pipeline: Any, picture: Image.Image) -> None:
    plain, before, bank = tiny.run(pipeline, picture), tiny.traces(pipeline.transformer), Bank()
    with repelled(pipeline, SOME, particles=2, bank=bank):
        tiny.run(pipeline, picture, 2)
    bank.join([0, 1])
    message = r"have \(28, 32\) \(tokens, dim\) to repel after hooked block 2 in step 0, but the bank has \(32, 32\) of"
    with pytest.raises(RepulsionError, match=message), repelled(pipeline, SOME, particles=2, bank=bank):
        tiny.run(pipeline, picture, 2, height=24)
    assert tiny.traces(pipeline.transformer) == before
    assert torch.equal(tiny.run(pipeline, picture), plain)


# From the outside


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
    assert [(n, given.anchor, given.strength) for n, given in seen.runs] == [(4, True, 1.0), (1, False, 0.5)]
    assert seen.kept == [[], [0, 2, 3]]
    assert [entry.strength for entry in edits] == [0.0, 0.5, 1.0, 1.0]
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
    made_again(pipeline, picture, [1], strategy=seen, on_unfaithful=policy)
    assert (seen.kept, seen.made) == ([None], [[]])


def test_nothing_is_remembered_in_the_last_round(pipeline: Any, picture: Image.Image) -> None:
    seen = Seen()
    made_again(pipeline, picture, [1], [1, 2], [3], strategy=seen, retries=2)
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
    assert [entry.strength for entry in both] == [0.0, 1.0, 0.5, 1.0]


@pytest.mark.parametrize("n", [1, 3])
def test_where_all_are_unfaithful_they_repel_one_another_alone(pipeline: Any, picture: Image.Image, n: int) -> None:
    seen = Seen()
    edits = made_again(pipeline, picture, range(n), strategy=seen, n=n)
    assert (seen.kept, [run[0] for run in seen.runs]) == ([[], []], [n, n])
    assert [len(made) for made in seen.made] == [n if n > 1 else 0] * 2  # a single one has none to repel
    assert same(edits, made_again(pipeline, picture, range(n), strategy=Seen(forgetful=True), n=n)) == [True] * n
    assert [entry.seed for entry in edits] == [5 + n + i for i in range(n)]
    assert [entry.strength for entry in edits] == [0.0, 0.5, 0.5][:n]


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
