"""Which step of the sampler a call of the transformer belongs to, and which rows follow the instruction."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from ctxrep_edit.plugins.adapter import Adapter
    from ctxrep_edit.plugins.contracts import Run


@dataclass
class Clock:
    """Follows a pipeline through its runs by what its transformer is given.

    step: from 0 in each run; -1 before the first. calls: of the transformer with the same timestep and latents, this
    one counted. conditional: whether the call follows the instruction, in whole or in some rows; the second call of a
    step under guidance by "calls" does not. parts: of the batch, in order.
    """

    adapter: Adapter
    guided: Callable[[], bool]
    step: int = -1
    calls: int = 0
    conditional: bool = True
    parts: tuple[str, ...] = ("conditional",)
    _timestep: float | None = None
    _latents: weakref.ref[Tensor] | None = None

    def tick(self, call: Mapping[str, Any]) -> None:
        """Takes note of a call of the transformer, by its keyword arguments. Timesteps fall: a lower one is the next
        step, a higher one the start of another run; the same one with the same latents is the second half of guidance.
        """
        timestep, latents = self.adapter.timestep(call), call["hidden_states"]
        if self._timestep is None or timestep > self._timestep:
            self.step = 0
        elif timestep < self._timestep:
            self.step += 1
        if timestep != self._timestep or self._latents is None or self._latents() is not latents:
            self.calls = 0
        self._timestep, self._latents = timestep, weakref.ref(latents)
        self.calls += 1
        guidance = self.adapter.guidance
        self.conditional = guidance != "calls" or self.calls == 1
        self.parts = guidance if guidance != "calls" and self.guided() else ("conditional",)

    def rows(self, batch: int) -> slice:
        """The rows that follow the instruction, in a batch of that size."""
        size = batch // len(self.parts)
        first = self.parts.index("conditional") * size
        return slice(first, first + size)


@contextmanager
def before_each_call(run: Run, change: Callable[[Clock, dict[str, Any]], None]) -> Iterator[None]:
    """Lets `change` alter the keyword arguments of each call of the transformer that follows the instruction."""
    clock = Clock(run.adapter, functools.partial(run.adapter.guided, run.pipeline))

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
