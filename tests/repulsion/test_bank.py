"""Repulsion from finished candidates: as if they were in the batch, without them being there."""

from __future__ import annotations

import functools
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import contextual
import pytest
import tiny
import torch
from ctxrep_adapters.flux_kontext import FluxKontext
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny import SOME
from torch import Tensor

from ctxrep_edit import RepulsionError, repelled
from ctxrep_edit.repulsion.ascent import repel
from ctxrep_edit.repulsion.attachment import Attachment
from ctxrep_edit.repulsion.bank import Bank
from ctxrep_edit.repulsion.clock import Clock
from ctxrep_edit.repulsion.hooks import _Repel
from ctxrep_edit.repulsion.tokens import Part

HERE = (0, 1, 0, 0)
tokens = functools.partial(contextual.particles, noise=0.3, length=6, dim=5, dtype=torch.float32)


def filled(particles: Tensor, mask: Tensor | None = None) -> Bank:
    """A bank that keeps these particles as they are."""
    bank = Bank()
    moved(bank, particles, mask, fixed=len(particles))
    bank.join(range(len(particles)))
    return bank


def moved(
    bank: Bank, particles: Tensor, mask: Tensor | None = None, fixed: int = 0, place: Any = HERE, **options: Any
) -> tuple[Tensor, float, float]:
    """What the bank makes of new particles, and the scores around it."""
    settings = {"strength": 1.0, "eta": None, "iterations": 5, "objective": "entropy", "keep_norm": True} | options
    (tokens,), before, after = bank.repel(place, [Part.of(particles, mask)], fixed=fixed, **settings)
    return tokens, before, after


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
    got, *scores = moved(filled(everyone[:kept], mask), everyone[kept:], fixed=int(anchor), **options)
    assert torch.equal(got, joint.tokens[kept:])
    assert scores == [joint.vendi_before, joint.vendi_after]
    assert torch.equal(got, everyone[kept:]) == (new == anchor)


def test_an_empty_bank_changes_nothing() -> None:
    some = tokens(3)
    (got, *scores), alone = moved(Bank(), some, fixed=1), repel(some, fixed=1, strength=1.0)
    assert torch.equal(got, alone.tokens)
    assert scores == [alone.vendi_before, alone.vendi_after]


@pytest.mark.parametrize("noting", [False, True])
@pytest.mark.parametrize("kept", [0, 2])
def test_those_of_an_earlier_turn_repel_the_later_ones(noting: bool, kept: int) -> None:
    everyone = tokens(kept + 6)
    bank = filled(everyone[:kept]) if kept else Bank()
    bank.noting = noting
    for start in (0, 2, 4):
        bank.turn, bank.last = range(start, start + 2), start == 4
        own = slice(kept + start, kept + start + 2)
        got, *scores = moved(bank, everyone[own])
        joint = repel(everyone[: own.stop], strength=1.0, fixed=own.start)
        torch.testing.assert_close(got, joint.tokens[own], rtol=1e-5, atol=1e-6)  # products are kept from turn to turn
        assert scores == pytest.approx([joint.vendi_before, joint.vendi_after], rel=1e-6)
    assert (len(bank.made), len(bank.passing)) == (6 if noting else 0, 4)
    bank.forget()
    assert (bank.turn, bank.passing) == (None, [])
    if noting:
        bank.choose([0, 3], torch.zeros(2, 4))
        bank.join([7, 8])
        went_on = repel(everyone[: kept + 4], strength=1.0, fixed=kept + 2).tokens  # its own turn had two
        torch.testing.assert_close(bank.kept[8][HERE], went_on[kept + 3], rtol=1e-5, atol=1e-6)
        assert [*bank.clean] == [7, 8]
        bank.leave([7])
        assert [*bank.clean] == [8]


# What it remembers


@pytest.mark.parametrize("masked", [False, True])
def test_the_selected_tokens_after_the_step_are_kept_in_their_dtype_each_by_itself(masked: bool) -> None:
    mask = torch.tensor([True, False, True, False, False, True]) if masked else torch.ones(6, dtype=torch.bool)
    some = tokens(3).bfloat16()
    bank = Bank()
    after = moved(bank, some, mask if masked else None)[0].clone()
    bank.join(range(3))
    some.zero_()
    for memory, row in zip(bank.kept.values(), after, strict=True):
        noted = memory[HERE]
        assert (noted.dtype, noted.device.type) == (torch.bfloat16, "cpu")
        assert torch.equal(noted, row[mask])
        assert noted.untyped_storage().nbytes() == noted.nbytes  # so that forgetting one frees it


def test_candidates_come_and_go() -> None:
    bank = filled(tokens(3))
    first = dict(bank.kept)
    bank.leave([1])
    moved(bank, tokens(1, seed=1))
    bank.join([1])
    assert [*bank.kept] == [0, 2, 1]
    assert (bank.kept[0], bank.kept[2]) == (first[0], first[2])
    assert not torch.equal(bank.kept[1][HERE], first[1][HERE])
    bank.noting = False
    moved(bank, tokens(2, seed=2))
    bank.join([0, 1])
    assert (len(bank), bank.made) == (3, [])


def test_what_does_not_fit_is_an_error() -> None:
    bank = filled(tokens(2))
    with pytest.raises(
        RepulsionError, match=r"have \(7, 5\) \(tokens, dim\).*the bank has \(6, 5\) of kept candidate 0"
    ):
        moved(bank, tokens(2, length=7))
    with pytest.raises(
        RepulsionError, match="hooked block 3 in step 1, but the bank has none of kept candidate 0: make new"
    ):
        moved(bank, tokens(2), place=(1, 1, 3, 0))
    moved(bank, tokens(2))
    with pytest.raises(RepulsionError, match=r"noted 2 particles, but 3 candidates were made.*particles=run\.n"):
        bank.join([0, 1, 2])


@pytest.mark.parametrize("others", [1, 3, 5])
def test_words_of_ones_own_may_be_more_or_fewer(others: int) -> None:
    """Of three text tokens here: what a kept one lacks is zeros, what it has beyond that is left out."""
    new, kept = tokens(2, length=7), tokens(2, length=4 + others, seed=1)
    bank = filled(kept)
    bank.worded = True
    text, image = (Part.of(some, None) for some in (new[:, :3], new[:, 3:]))
    options = {"strength": 1.0, "eta": None, "iterations": 5, "objective": "entropy", "keep_norm": True}
    moved_text, moved_image = bank.repel(HERE, [text, image], fixed=0, **options)[0]
    alike = torch.zeros(2, 7, 5)
    alike[:, : min(others, 3)], alike[:, 3:] = kept[:, : min(others, 3)], kept[:, others:]
    expected = repel(torch.cat([alike, new]), strength=1.0, fixed=2, iterations=5).tokens[2:]
    torch.testing.assert_close(torch.cat([moved_text, moved_image], 1), expected)


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

    def block(some: Tensor, anchor: bool, **changes: Any) -> Tensor:
        """What the hook makes of (parts, n, tokens, dim)."""
        given = replace(SOME, guidance=guidance, anchor=anchor, **changes)
        clock = Clock(family, SimpleNamespace(do_classifier_free_guidance=True))
        run = Attachment(family, given, some.shape[1], words, clock, bank)
        run._blocks.append(SimpleNamespace())  # it is the only one
        batch = some.flatten(0, 1)  # (parts * n, tokens, dim)
        text, image = batch[:, :3], batch[:, 3:]
        ids = torch.tensor([[0.0], [0.0], [0.0], [1.0]]).expand(4, 3)  # the last token is of the reference
        call = {"timestep": torch.ones(1), "hidden_states": image, "encoder_hidden_states": text}
        run.begin(None, (), {**call, "img_ids": ids})
        hook = _Repel(run, "joint" if joint else ("text", "image"), chosen, 0)
        out = hook.post_forward(None, batch if joint else (text, image))
        return (out if joint else torch.cat(out, 1)).unflatten(0, some.shape[:2])

    block(everyone[:, :2], False, strength=1e-30)  # so that they are kept as they are
    bank.join([0, 1])
    out = block(everyone[:, 2:], anchor)
    selected = torch.tensor([True, True, False, True, True, True, False])
    for part, had, got in zip(PARTS[parts], everyone, out, strict=True):
        if part == "unconditional" and guidance == "conditional":
            assert torch.equal(got, had[2:])
        else:
            torch.testing.assert_close(got, repel(had, strength=1.0, mask=selected, fixed=2 + anchor).tokens[2:])
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
