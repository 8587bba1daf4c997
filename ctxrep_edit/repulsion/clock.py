"""Which step of the sampler a call of the transformer belongs to, and which rows follow the instruction."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ctxrep_edit.errors import RepulsionError

if TYPE_CHECKING:
    from ctxrep_edit.plugins.adapter import Adapter
    from ctxrep_edit.plugins.contracts import Run


CALLS = 16  # more than a step makes with the same latents


@dataclass
class Clock:
    """Follows a pipeline through its runs by its scheduler and by what its transformer is given.

    step: of the sampler, from 0 in each run; -1 before the first. evaluation: of the step, 0 but with schedulers that
    take several. calls: of the transformer in it with the same latents, this one counted. conditional: whether the call
    follows the instruction, in whole or in some rows; the second call of a step under guidance by "calls" does not.
    parts: of the batch, in order. filling: the step of the run in which a cache was filled, -1: none so far.
    """

    adapter: Adapter
    pipeline: Any
    step: int = field(default=-1, init=False)
    evaluation: int = field(default=0, init=False)
    calls: int = field(default=0, init=False)
    conditional: bool = field(default=True, init=False)
    parts: tuple[str, ...] = field(default=("conditional",), init=False)
    filling: int = field(default=-1, init=False)
    _levels: Sequence[float] | None = field(default=None, init=False)
    _timestep: float | None = field(default=None, init=False)
    _seen: list[tuple[Callable[[], Tensor | None], int]] = field(default_factory=list, init=False)

    def tick(self, call: Mapping[str, Any]) -> None:
        """Takes note of a call of the transformer, by its keyword arguments: one of the same step with the same latents
        is the second half of guidance."""
        latents = self.adapter.latents(call)
        step = self._scheduled()
        step = self._by_timestep(call) if step is None else step
        seen = self._seen if step == self.step else []
        before = next((calls for known, calls in seen if known() is latents), 0)
        if step == 0 and not before:
            self._levels, self.filling = None, -1
        if self.adapter.fills(call):
            self.filling = step
        self.step, self.calls = step, before + 1
        self._seen = [entry for entry in seen if entry[0]() is not latents]
        self._seen.append((weakref.ref(latents), self.calls))
        guidance = self.adapter.guidance
        self.conditional = guidance != "calls" or self.calls == 1
        guided = guidance != "calls" and self.adapter.guided(self.pipeline)
        self.parts = guidance if guided and guidance != "calls" else ("conditional",)

    def _scheduled(self) -> int | None:
        """By the scheduler's own count, which is none before its first step; timesteps collide in half precision."""
        scheduler: Any = getattr(self.pipeline, "scheduler", None)
        index: int | None = getattr(scheduler, "step_index", None)
        self.evaluation = 0
        if index is None:
            return None
        self._timestep = None
        begin: int = getattr(scheduler, "begin_index", None) or 0
        step, self.evaluation = divmod(index - begin, getattr(scheduler, "order", 1))
        return step

    @property
    def call(self) -> int:
        """Which call of the transformer in this step it is, from 1."""
        return CALLS * self.evaluation + self.calls

    @property
    def steps(self) -> int:
        """Timesteps of the run. Raises as `noise` does."""
        return len(self._noise_levels()) - 1

    def noise(self, step: int) -> tuple[float, float]:
        """What timestep number `step` starts and ends with, in shares of the noise that the run starts with.

        Raises RepulsionError where the scheduler does not say how much noise there is, or not as a flow does.
        """
        levels = self._noise_levels()
        last = len(levels) - 1
        return levels[min(step, last - 1)], levels[min(step + 1, last)]

    def _noise_levels(self) -> Sequence[float]:
        if self._levels is None:
            self._levels = noise_levels(self.pipeline)
        return self._levels

    def _by_timestep(self, call: Mapping[str, Any]) -> int:
        """Timesteps fall: a lower one is the next step, a higher one the start of another run."""
        timestep, before = self.adapter.timestep(call), self._timestep
        self._timestep = timestep
        if before is None or timestep > before:
            return 0
        return self.step + (timestep < before)

    def rows(self, batch: int) -> slice:
        """The rows that follow the instruction, in a batch of that size."""
        size = batch // len(self.parts)
        first = self.parts.index("conditional") * size
        return slice(first, first + size)


def noise_levels(pipeline: Any) -> Sequence[float]:
    """The noise before each timestep of a run and after its last one, in shares of the first: 1 down to 0.

    It is sigma of x_t = (1 - sigma) x_0 + sigma noise. Raises RepulsionError where the scheduler has no such sigmas.
    """
    scheduler: Any = getattr(pipeline, "scheduler", None)
    sigmas = getattr(scheduler, "sigmas", None)
    levels = [] if sigmas is None else list(sigmas.tolist() if hasattr(sigmas, "tolist") else sigmas)
    levels = levels[getattr(scheduler, "begin_index", None) or 0 :]
    if len(levels) < 2 or not 0 < levels[0] <= 1 + 1e-3:
        raise RepulsionError(
            f"{type(scheduler).__name__} does not say how much of the noise is left in a step, as the schedulers of "
            "flow models do by their sigmas: say in how many first steps to repel, with Repulsion(steps=...)."
        )
    order: int = getattr(scheduler, "order", 1)
    return [level / levels[0] for level in (*levels[:-1:order], levels[-1])]


def first_noise(pipeline: Any) -> float:
    """Of what `noise_levels` are shares: sigma before the first timestep of a run."""
    scheduler: Any = pipeline.scheduler
    return float(scheduler.sigmas[getattr(scheduler, "begin_index", None) or 0])


@contextmanager
def before_each_call(run: Run, change: Callable[[Clock, dict[str, Any]], None]) -> Iterator[None]:
    """Lets `change` alter the keyword arguments of each call of the transformer that follows the instruction."""
    clock = Clock(run.adapter, run.pipeline)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def hook(module: nn.Module, args: tuple[Any, ...], call: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if not run.adapter.denoises(call):
            return args, call
        clock.tick(call)
        call = dict(call)
        if clock.conditional:
            change(clock, call)
        return args, call

    handle = run.adapter.transformer(run.pipeline).register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
