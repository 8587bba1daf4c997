"""Which step of the sampler a call of the transformer belongs to, and which rows follow the instruction."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from ctxrep_edit.plugins.adapter import Adapter
    from ctxrep_edit.plugins.contracts import Run


@dataclass
class Clock:
    """Follows a pipeline through its runs by its scheduler and by what its transformer is given.

    step: of the sampler, from 0 in each run; -1 before the first. calls: of the transformer in this step with the same
    latents, this one counted. conditional: whether the call follows the instruction, in whole or in some rows; the
    second call of a step under guidance by "calls" does not. parts: of the batch, in order.
    """

    adapter: Adapter
    pipeline: Any
    step: int = field(default=-1, init=False)
    calls: int = field(default=0, init=False)
    conditional: bool = field(default=True, init=False)
    parts: tuple[str, ...] = field(default=("conditional",), init=False)
    _timestep: float | None = field(default=None, init=False)
    _latents: Callable[[], Tensor | None] = field(default=lambda: None, init=False)

    def tick(self, call: Mapping[str, Any]) -> None:
        """Takes note of a call of the transformer, by its keyword arguments: one of the same step with the same latents
        is the second half of guidance."""
        latents = call["hidden_states"]
        step = self._scheduled()
        step = self._by_timestep(call) if step is None else step
        again = step == self.step and self._latents() is latents
        self.step, self.calls = step, self.calls + 1 if again else 1
        self._latents = weakref.ref(latents)
        guidance = self.adapter.guidance
        self.conditional = guidance != "calls" or self.calls == 1
        guided = guidance != "calls" and self.adapter.guided(self.pipeline)
        self.parts = guidance if guided and guidance != "calls" else ("conditional",)

    def _scheduled(self) -> int | None:
        """By the scheduler's own count, which is none before its first step; timesteps collide in half precision."""
        scheduler: Any = getattr(self.pipeline, "scheduler", None)
        index: int | None = getattr(scheduler, "step_index", None)
        if index is None:
            return None
        self._timestep = None
        begin: int = getattr(scheduler, "begin_index", None) or 0
        order: int = getattr(scheduler, "order", 1)
        return (index - begin) // order

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


@contextmanager
def before_each_call(run: Run, change: Callable[[Clock, dict[str, Any]], None]) -> Iterator[None]:
    """Lets `change` alter the keyword arguments of each call of the transformer that follows the instruction."""
    clock = Clock(run.adapter, run.pipeline)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def hook(module: nn.Module, args: tuple[Any, ...], call: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
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
