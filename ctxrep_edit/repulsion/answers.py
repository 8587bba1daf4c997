"""What a transformer has answered, kept for some of the particles and given again instead of computing it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ctxrep_edit.plugins.adapter import Adapter
from ctxrep_edit.repulsion.registry import CalledInstead

Prediction = Tensor | list[Tensor]
"""For the rows of a batch: a tensor, or a list of one for each row."""


@dataclass
class Answers:
    """The outputs of a transformer, call by call, on the host.

    m: particles in a batch, each once in every part of the guidance.
    """

    m: int
    calls: list[Any] = field(default_factory=list)

    def note(self, output: Any) -> None:
        """Keeps what a call returned for all particles."""
        self.calls.append(on("cpu", output))

    def of(self, particles: Sequence[int]) -> Answers:
        """What these alone were answered."""
        return Answers(len(particles), [_chosen(output, particles, self.m) for output in self.calls])

    @contextmanager
    def given(self, transformer: nn.Module, adapter: Adapter) -> Iterator[None]:
        """In it, the first calls in which the transformer denoises are answered so, for a batch of these particles.
        Nothing that is hooked into it runs in them, nor it itself unless that fills a cache; from then on it is as it
        was."""
        calling = _Calling(transformer, adapter, self.calls)
        try:
            yield
        finally:
            calling.free()


class _Calling(CalledInstead):
    """Of a transformer, while there are answers to give."""

    def __init__(self, transformer: nn.Module, adapter: Adapter, outputs: Sequence[Any]) -> None:
        super().__init__(transformer)
        self.adapter, self.left = adapter, [*reversed(outputs)]

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(self, *args: Any, **call: Any) -> Any:
        if not self.left or not self.adapter.denoises(call):
            return self.ask(*args, **call)
        answer = on(self.adapter.latents(call).device, self.left.pop())
        if not self.adapter.fills(call):
            return answer
        return instead(self.module.forward(*args, **call), prediction(answer))


def prediction(output: Any) -> Prediction:
    """What a transformer returns is it, or has it as its first entry."""
    first: Prediction = output if isinstance(output, Tensor) else output[0]
    return first


def instead(output: Any, other: Prediction) -> Any:
    """The same output with another prediction."""
    if isinstance(output, Tensor):
        return other
    return (other, *output[1:]) if isinstance(output, tuple) else type(output)(other)


def rows_of(particles: Sequence[int], m: int, batch: int) -> list[int]:
    """Of a batch with all parts of the guidance, m particles in each, which belong to these."""
    return [part * m + i for part in range(batch // m) for i in particles]


def _chosen(output: Any, particles: Sequence[int], m: int) -> Any:
    made = prediction(output)
    rows = rows_of(particles, m, len(made))
    return instead(output, made[rows] if isinstance(made, Tensor) else [made[row] for row in rows])


def on(device: torch.device | str, output: Any) -> Any:
    """A copy there; a pipeline may write into what it is given."""
    made = prediction(output)
    if isinstance(made, Tensor):
        return instead(output, made.detach().to(device, copy=True))
    return instead(output, [row.detach().to(device, copy=True) for row in made])
