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
from ctxrep_edit.repulsion.bank import Bank
from ctxrep_edit.repulsion.clock import Clock, noise_levels
from ctxrep_edit.repulsion.turns import Turn, Turns
from ctxrep_edit.sampling.calling import steps_of
from ctxrep_edit.sampling.choice import choose
from ctxrep_edit.sampling.stepping import foreseeing
from ctxrep_edit.settings import Repulsion


@dataclass
class Pool:
    """The m candidates that a run starts with, and the n of them that it ends with, where m may be n.

    All of them are in the pipeline's loop to its end, so that no pipeline has to be stopped and resumed and any
    scheduler keeps its state. But the transformer is given n rows at a time: up to the choice all in turn, each n
    repelled from those before them by way of the bank, and then the chosen ones alone. The others stay where they are
    and are not decoded. So a pool takes no more memory than n candidates, and their tokens of one call.

    bank: finished candidates that the chosen ones are to differ from, too; it is told what was chosen. kept: the chosen
    ones, in order; None before the choice.
    """

    adapter: Adapter
    pipeline: Any
    settings: Repulsion
    m: int
    n: int
    bank: Bank
    kept: list[int] | None = None
    _clock: Clock = field(init=False)

    def __post_init__(self) -> None:
        self._clock = Clock(self.adapter, self.pipeline)

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
            if self.kept is None and self._over():
                self._choose(clean())

        turns = Turns(self.adapter, self.m, self._turns, self.bank)
        handles = turns.hooked(transformer, before=self._clock.tick)
        try:
            with foreseeing(scheduler, seen):
                yield
        finally:
            for handle in handles:
                handle.remove()

    def after(self, first: StepCallback | None) -> StepCallback:
        """`first`, and after the last step the chosen latents alone."""

        def after(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            if first is not None:
                tensors = {**tensors, **first(pipe, step, timestep, tensors)}
            if self.adapter.decodes_fewer and step + 1 == steps_of(pipe):
                tensors = {**tensors, "latents": tensors["latents"][self.kept]}
            return tensors

        return after

    def settle(self, images: Tensor, seeds: Sequence[int]) -> tuple[Tensor, list[int]]:
        """The chosen ones' pictures and seeds; the first n where the run was ended before the choice."""
        if self.kept is None:
            self.kept = list(range(self.n))
            self.bank.choose(self.kept, images[:0])
        return images[self.kept] if len(images) == self.m else images, [seeds[i] for i in self.kept]

    def _over(self) -> bool:
        """Whether the window is over in the step under way, or this is the last one."""
        step = self._clock.step
        noise = self._clock.noise(step)
        return self.settings.share(step, noise) == 0 or noise == self._clock.noise(step + 1)

    def _choose(self, clean: Tensor) -> None:
        points = clean.detach().float().flatten(1).cpu()  # (m, numbers)
        away = [*self.bank.clean.values()]
        first = [0] if self.settings.anchor or not away else []
        self.kept = choose(points, torch.stack(away) if away else points[:0], first, self.n)
        self.bank.choose(self.kept, points[self.kept])

    def _turns(self) -> Sequence[Turn]:
        """The candidates that pass through the transformer together, in order."""
        if self.kept is not None:
            return [self.kept]
        return [range(start, min(start + self.n, self.m)) for start in range(0, self.m, self.n)]
