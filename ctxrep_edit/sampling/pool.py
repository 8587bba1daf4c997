"""A pool: more candidates start than are wanted, and after the window those that stand for all others go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ctxrep_edit.errors import InputError, RepulsionError
from ctxrep_edit.plugins.adapter import Adapter
from ctxrep_edit.plugins.contracts import StepCallback
from ctxrep_edit.repulsion.answers import Answers
from ctxrep_edit.repulsion.bank import Bank
from ctxrep_edit.repulsion.clock import Clock, noise_levels
from ctxrep_edit.repulsion.holding import lasts
from ctxrep_edit.repulsion.turns import Turn, Turns
from ctxrep_edit.sampling.calling import steps_of
from ctxrep_edit.sampling.choice import choose, left_out
from ctxrep_edit.sampling.stepping import foreseeing
from ctxrep_edit.sampling.waiting import Waiting
from ctxrep_edit.settings import Repulsion


@dataclass
class Pool:
    """The candidates that a run starts with, and the n of them that are chosen, which may be all.

    All of them are in the pipeline's loop to its end, so that no pipeline has to be stopped in its middle and any
    scheduler keeps its state. But the transformer is given `at_once` rows at a time: up to the choice all in turn, each
    repelled from those before them by way of the bank, and then the first of the chosen ones alone. The others stay
    where they are and are not decoded. So a pool takes no more memory than `at_once` candidates, and the tokens of one
    call of all. Those of the chosen that are not among the first wait for calls of their own.

    The choice is made by what the first step behind the window foresees, where nothing pushes; half of those that are
    too many are left out of it, by what the last answer of the window foresaw.

    seeds: of those that start. bank: finished candidates that the chosen ones are to differ from, too; it is told what
    was chosen. going: those that this run makes pictures of, in order; None before the choice. waiting: the rest of
    the chosen, after it.
    """

    adapter: Adapter
    pipeline: Any
    settings: Repulsion
    seeds: Sequence[int]
    n: int
    at_once: int
    bank: Bank
    going: list[int] | None = field(default=None, init=False)
    waiting: Waiting | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._clock = Clock(self.adapter, self.pipeline)
        self._staying: Sequence[int] = range(self.m)  # behind the window, up to the choice
        self._before: Tensor | None = None  # what was foreseen of all in the window, (m, numbers)
        self._left: list[int] = []  # of the chosen, those that wait
        self._answers = Answers(self.m)

    @property
    def m(self) -> int:
        """How many start."""
        return len(self.seeds)

    @contextmanager
    def at_work(self, transformer: nn.Module) -> Iterator[None]:
        """Watches the scheduler, which must be a copy lent for this run, and the transformer.

        Raises InputError where the scheduler does not say how much noise there is, so that no picture can be foreseen.
        """
        scheduler = self.pipeline.scheduler
        try:
            noise_levels(self.pipeline)
        except RepulsionError as error:
            raise InputError(
                f"oversample is {self.settings.oversample}, but by the sigmas of {type(scheduler).__name__}, which are "
                "none of a flow, no picture can be foreseen to choose by: take oversample=1."
            ) from error

        def seen(rows: int, clean: Callable[[], Tensor]) -> None:
            if self.going is None and (self._behind(self._clock.step) or self._at_end()):
                self._choose(clean())
            elif self._before is None and self._closing():
                self._narrow(clean())

        def answered(output: Any) -> None:
            if self.going is None and self.at_once < self.n:
                self._answers.note(output)

        turns = Turns(self.adapter, self.m, self._turns, self.bank)
        handles = turns.hooked(transformer, before=self._clock.tick, after=answered)
        self.bank.pooled(self.m, afar=self.at_once < self.n)
        try:
            with foreseeing(scheduler, seen):
                yield
        finally:
            for handle in handles:
                handle.remove()

    def after(self, first: StepCallback) -> StepCallback:
        """`first`; then those that wait are put aside, and after the last step the latents of the others are left."""

        def after(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            tensors = first(pipe, step, timestep, tensors)
            if self._left and self.waiting is None:
                seeds, latents = [self.seeds[i] for i in self._left], tensors["latents"][self._left]
                self.waiting = Waiting(seeds, latents, step, self._answers.of(self._left))
            if self.adapter.decodes_fewer and step + 1 == steps_of(pipe):
                tensors = {**tensors, "latents": tensors["latents"][self.going]}
            return tensors

        return after

    def settle(self, images: Tensor) -> tuple[Tensor, list[int]]:
        """Pictures and seeds of those that went on; of the first that started, where the run was ended before the
        choice."""
        if self.going is None:
            self.bank.choose(range(self.n), images[:0])
            self.going = [*range(self.at_once)]
        return images[self.going] if len(images) == self.m else images, [self.seeds[i] for i in self.going]

    def _behind(self, step: int) -> bool:
        """Whether that step is behind the window, so that nothing repels in it."""
        return self.settings.share(step, self._clock.noise(step)) == 0

    def _at_end(self) -> bool:
        """Whether the step under way is the last one of the run, in which all may still repel."""
        return self._clock.step + 1 == self._clock.steps

    def _closing(self) -> bool:
        """Whether the answer in the step under way is the last one in the window, and not the first: in all noise
        pictures differ by little that will last."""
        step = self._clock.step
        last = lasts(self.settings, self._clock, step)
        return step > 0 and last is not None and last + 1 < self._clock.steps and self._behind(last + 1)

    def _narrow(self, clean: Tensor) -> None:
        self._before = _points(clean)
        self._staying = self._medoids(self._before, (self.m + self.n + 1) // 2)

    def _choose(self, clean: Tensor) -> None:
        points = _points(clean)
        gone = None if self._before is None else left_out(self._before, self._staying, points)
        chosen = [self._staying[i] for i in self._medoids(points[[*self._staying]], self.n, gone)]
        self.bank.choose(chosen, points[chosen])
        self.going, self._left = chosen[: self.at_once], chosen[self.at_once :]

    def _medoids(self, points: Tensor, count: int, gone: Tensor | None = None) -> list[int]:
        away = [*self.bank.clean.values()]
        first = [0] if self.settings.anchor or not away else []
        return choose(points, torch.stack(away) if away else points[:0], first, count, gone)

    def _turns(self) -> Sequence[Turn]:
        """The candidates that pass through the transformer together, in order."""
        if self.going is not None:
            return [self.going]
        some = self._staying if self._behind(self._clock.step) else range(self.m)
        return [some[start : start + self.at_once] for start in range(0, len(some), self.at_once)]


def _points(clean: Tensor) -> Tensor:
    """(rows, numbers), on the host."""
    return clean.detach().float().flatten(1).cpu()
