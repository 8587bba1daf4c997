"""Candidates that were chosen from a pool and wait there: a later call of the pipeline makes the rest of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from ctxrep_edit.plugins.adapter import Adapter
from ctxrep_edit.plugins.contracts import StepCallback
from ctxrep_edit.repulsion.answers import Answers
from ctxrep_edit.repulsion.bank import Bank


@dataclass(frozen=True)
class Waiting:
    """seeds: one for each. latents: (k, ...), as the step of that number, from 0, left them. answers: what the
    transformer has said to them up to there."""

    seeds: Sequence[int]
    latents: Tensor
    step: int
    answers: Answers

    def first(self, count: int) -> Waiting:
        """Those that go on now."""
        return self._some(range(count))

    def after(self, count: int) -> Waiting | None:
        """Those that wait on; None where there are none."""
        rest = range(count, len(self.seeds))
        return self._some(rest) if rest else None

    def _some(self, which: range) -> Waiting:
        return replace(
            self, seeds=[self.seeds[i] for i in which], latents=self.latents[[*which]], answers=self.answers.of(which)
        )


@dataclass
class Resumption:
    """A call of the pipeline that makes the rest of those that waited.

    It begins at the beginning, from the same noise and with the same arguments, so that whatever the pipeline and its
    scheduler keep from step to step is what it was. But up to the step in which they were left the transformer is not
    asked again, and after it the latents are those that were left, whatever a strategy or the caller made of them.

    going: which rows are known to go on, from that step.
    """

    adapter: Adapter
    waiting: Waiting
    bank: Bank
    going: range | None = field(default=None, init=False)

    @property
    def seeds(self) -> Sequence[int]:
        return self.waiting.seeds

    @contextmanager
    def at_work(self, transformer: nn.Module) -> Iterator[None]:
        self.bank.passed = True
        try:
            with self.waiting.answers.given(transformer, self.adapter):
                yield
        finally:
            self.bank.passed = False

    def after(self, first: StepCallback) -> StepCallback:
        """`first`, and after the step in which they were left the latents from there."""

        def after(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            tensors = first(pipe, step, timestep, tensors)
            if step == self.waiting.step:
                self.going = range(len(self.seeds))
                tensors = {**tensors, "latents": self.waiting.latents}
            return tensors

        return after

    def settle(self, images: Tensor) -> tuple[Tensor, list[int]]:
        """Their pictures and seeds."""
        return images, [*self.seeds]
