"""Steps of the window in which a transformer is not asked about particles that repel: its last answer holds.

High up in the noise the clean picture that a velocity points at changes little from step to step, so that what moves a
particle there need not be found anew in each. What the answer holds for is one step of the repulsion.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ctxrep_edit.plugins.adapter import Adapter
from ctxrep_edit.repulsion.answers import instead, on, prediction
from ctxrep_edit.repulsion.clock import Clock
from ctxrep_edit.repulsion.registry import CalledInstead
from ctxrep_edit.settings import ROUNDING, Repulsion


def share_of(settings: Repulsion, clock: Clock, step: int) -> float:
    """`Repulsion.share` in that step, by its mean over all steps for which the answer in it holds; 0 where an earlier
    one does."""
    if settings.steps is not None:
        return settings.share(step)
    last = lasts(settings, clock, step)
    return 0.0 if last is None else settings.share(step, (clock.noise(step)[0], clock.noise(last)[1]))


def lasts(settings: Repulsion, clock: Clock, step: int) -> int | None:
    """The last step for which the answer in this one holds, itself outside of the window; None where an earlier one
    does."""
    if not settings.hold or not _within(settings, clock, step):
        return step
    first = 0
    for other in range(1, step + 1):
        if not _holds(settings, clock, first, other):
            first = other
    if first < step:
        return None
    last = step
    while _within(settings, clock, last + 1) and _holds(settings, clock, step, last + 1):
        last += 1
    return last


def _within(settings: Repulsion, clock: Clock, step: int) -> bool:
    return settings.share(step, clock.noise(step)) > 0


def _holds(settings: Repulsion, clock: Clock, first: int, step: int) -> bool:
    """Whether so little noise goes between the two that the first's answer holds in the other. In the last step of a
    run none does, and one that came with filling a cache, which may be about other tokens, holds in no other."""
    if first == clock.filling or step >= clock.steps - 1:
        return False
    return clock.noise(first)[0] - clock.noise(step)[0] < settings.hold - ROUNDING


class Holding(CalledInstead):
    """Of a transformer, whose answers hold.

    clock: its own, which no other call ticks. particles: of one group in a batch, None: all of them. anchor: whether
    the first of each is asked about in each step. asking: whether the transformer is, through it.
    """

    def __init__(
        self, transformer: nn.Module, adapter: Adapter, clock: Clock, settings: Repulsion, *, particles: int | None,
        anchor: bool,
    ) -> None:  # fmt: skip
        super().__init__(transformer)
        self.adapter, self.clock, self.settings = adapter, clock, settings
        self.particles, self.anchor = particles, anchor
        self.asking = False
        self._answers: dict[tuple[int, int], Any] = {}  # of the last step with any, by the call's number and its rows

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(self, *args: Any, **call: Any) -> Any:
        if self.asking or not self.adapter.denoises(call):
            return self.ask(*args, **call)
        self.clock.tick(call)
        latents, last = self.adapter.latents(call), lasts(self.settings, self.clock, self.clock.step)
        place = self.clock.calls, len(latents)
        if last is None and place in self._answers:
            return self._held(call, on(latents.device, self._answers[place]), len(latents))
        self.asking = True
        try:
            output = self.ask(*args, **call)
        finally:
            self.asking = False
        if last is not None and self.clock.calls == 1:
            self._answers.clear()
        if last is not None and last > self.clock.step:
            self._answers[place] = on(latents.device, output)
        return output

    def _held(self, call: dict[str, Any], output: Any, batch: int) -> Any:
        """The last answer, with that of this step for anchors, which nothing moves."""
        if not self.anchor:
            return output
        size = batch // len(self.clock.parts)
        rows = [*range(0, batch, min(size, self.particles or size))]
        own = prediction(self.module.forward(**self.adapter.rows(call, rows, batch)))
        made = prediction(output)
        for row, answer in zip(rows, own, strict=True):
            made[row] = answer
        return instead(output, made)
