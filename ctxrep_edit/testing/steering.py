"""The conformance kit for strategies that steer: that move tokens by a function which they hand to `repelled`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from ctxrep_edit.imaging import to_tensor
from ctxrep_edit.plugins.adapter import Adapter
from ctxrep_edit.plugins.contracts import Strategy
from ctxrep_edit.repulsion import hooks
from ctxrep_edit.repulsion.attachment import Attachment, Steer
from ctxrep_edit.repulsion.bank import Place
from ctxrep_edit.repulsion.tokens import Part
from ctxrep_edit.results.editset import EditSet
from ctxrep_edit.settings import Repulsion
from ctxrep_edit.testing.fakes import INSTRUCTION, tiny_picture
from ctxrep_edit.testing.strategies import StrategyConformance

LEVEL = 1 / 255


@dataclass
class Steered:
    """One call of a `steer`. given: the parts it was given, kept as copies. left: these very parts, after the call.
    made: what it returned. again: what it returned at a second call."""

    place: Place
    given: list[Part]
    left: Sequence[Part]
    made: list[Part]
    again: list[Part]

    @property
    def where(self) -> str:
        step, _, block, _ = self.place
        return f"In step {step}, after hooked block {block}"


class SteeringConformance(StrategyConformance):
    """Holds a strategy to its contract that moves tokens by `repelled(..., steer=...)`, on the tiny FLUX Kontext
    pipeline.

    Override `strategy`; one that leans on edits takes the fixture `edits`. Override `ends` where such a strategy can
    give an edit back.
    """

    @pytest.fixture
    def edits(self, pipeline: Any, adapter: Adapter) -> EditSet:
        """Three edits that were made on `pipeline`, none of them plain, with the contextual tokens that they had."""
        from ctxrep_edit.api import diverse_edit

        width, height = self.size
        repulsion = replace(adapter.default, oversample=1, anchor=False)
        return diverse_edit(
            tiny_picture(80, 60), INSTRUCTION, 3, pipeline=pipeline, seed=0, steps=self.steps, width=width,
            height=height, repulsion=repulsion, bank="memory", preserve="off", progress=False, **self.options,
        )  # fmt: skip

    def ends(self, edits: EditSet) -> Sequence[tuple[Strategy, int]]:
        """Strategies of yours, and of which edit every candidate of theirs is to be made again: the ends of a walk."""
        return ()

    def settings(self, adapter: Adapter, strategy: Strategy) -> Repulsion:
        assert strategy.repels, "It goes through `repelled`, so it reads more settings than the strength: set repels."
        return super().settings(adapter, strategy)

    def test_tokens_keep_their_form(self, pipeline: Any, adapter: Adapter, strategy: Strategy) -> None:
        """As many, of their shape and dtype, finite; those that take no part stay as they are. And some are moved."""
        seen = self.steered(pipeline, adapter, strategy)
        for one in seen:
            forms, given = [[_form(part) for part in parts] for parts in (one.made, one.given)]
            assert forms == given, f"{one.where}: it returned {forms} where it was given {given}."
            for part, before in zip(one.made, one.given, strict=True):
                still = torch.equal(part.put(before.selected), before.tokens)
                assert still, f"{one.where}: it moved tokens that take no part: put them back by `part.put`."
        assert not all(_same(one.made, one.given) for one in seen), "It moved no token at all."

    def test_steering_changes_nothing_that_it_is_given(
        self, pipeline: Any, adapter: Adapter, strategy: Strategy, edits: EditSet
    ) -> None:
        memories = [edit.trace.memory for edit in edits if edit.trace is not None]
        before = [{place: tokens.clone() for place, tokens in memory.items()} for memory in memories]
        for one in self.steered(pipeline, adapter, strategy):
            assert _same(one.left, one.given), f"{one.where}: it changed the tokens it was given: work on a copy."
        for memory, kept in zip(memories, before, strict=True):
            same = all(torch.equal(tokens, kept[place]) for place, tokens in memory.items())
            assert same, "It changed the tokens of an edit that it leans on: work on a copy."

    def test_steering_is_pure(self, pipeline: Any, adapter: Adapter, strategy: Strategy) -> None:
        """At one place the same tokens are moved alike, however often it is asked: batches are made again."""
        for one in self.steered(pipeline, adapter, strategy):
            assert _same(one.made, one.again), f"{one.where}: asked again, it moves the same tokens otherwise."

    def test_the_ends_are_the_edits(self, pipeline: Any, adapter: Adapter, edits: EditSet) -> None:
        ends = self.ends(edits)
        if not ends:
            pytest.skip("`ends` names none")
        for strategy, number in ends:
            settings = self.settings(adapter, strategy)
            seed = edits[number].seed
            assert seed is not None
            pictures = self.run(pipeline, adapter, settings, strategy=strategy, seeds=[seed])
            off = float((pictures - to_tensor(edits[number].image)).abs().max())
            assert off <= 1.5 * LEVEL, (
                f"A candidate that is to be edit {number + 1} again is {off / LEVEL:.0f} grey levels off: set its "
                "tokens at every place, keep its noise, and let nothing repel it."
            )

    def steered(self, pipeline: Any, adapter: Adapter, strategy: Strategy) -> list[Steered]:
        """Each call of its `steer` in a run of three."""
        with _watching() as seen:
            self.moved(pipeline, adapter, strategy)
        assert seen, "Nothing steered: hand `steer` to `repelled`, or take StrategyConformance."
        return seen


@contextmanager
def _watching() -> Iterator[list[Steered]]:
    """In it, what is steered is noted."""
    seen: list[Steered] = []

    def watched(steer: Steer) -> Steer:
        def both(place: Place, parts: Sequence[Part]) -> list[Part]:
            given = _copies(parts)
            made = list(steer(place, parts))
            again = list(steer(place, _copies(given)))
            one = Steered(place, given, parts, _copies(made), again)
            finite = all(part.tokens.isfinite().all() for part in made)
            assert finite, f"{one.where}: it returned tokens that are not finite."  # else the ascent says it otherwise
            seen.append(one)
            return made

        return both

    def attachment(*args: Any, **options: Any) -> Attachment:
        run = Attachment(*args, **options)
        run.steer = None if run.steer is None else watched(run.steer)
        return run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hooks, "Attachment", attachment)
        yield seen


def _copies(parts: Sequence[Part]) -> list[Part]:
    return [replace(part, tokens=part.tokens.clone()) for part in parts]


def _form(part: Part) -> tuple[Any, ...]:
    return tuple(part.tokens.shape), part.tokens.dtype, part.length


def _same(one: Sequence[Part], other: Sequence[Part]) -> bool:
    return all(torch.equal(a.tokens, b.tokens) for a, b in zip(one, other, strict=True))
