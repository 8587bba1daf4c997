"""A batch that passes through the transformer a few particles at a time, each repelled from those before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ctxrep_edit.plugins.adapter import Adapter
from ctxrep_edit.repulsion.bank import Bank

Turn = Sequence[int]
"""The particles that pass together, by number."""


class Turns:
    """Gives a transformer, instead of its whole batch, the rows of some particles in turn, and puts what comes of them
    together.

    adapter: of its pipeline. m: particles in the batch, each once in every part of the guidance. turns: asked in every
    call which particles pass together; what none of them has comes out as zeros. bank: hands the tokens of one turn to
    the next; those of a turn that is no range repel nothing.
    """

    def __init__(self, adapter: Adapter, m: int, turns: Callable[[], Sequence[Turn]], bank: Bank) -> None:
        self.adapter, self.m, self.turns, self.bank = adapter, m, turns, bank
        self._call: dict[str, Any] | None = None  # the one under way, with all rows; none that is no timestep
        self._parts: dict[int, Tensor] = {}  # of its latents, by turn
        self._latents: Tensor | None = None
        self._turning = False

    def hooked(
        self, transformer: nn.Module, before: Callable[[Mapping[str, Any]], None] | None = None
    ) -> list[RemovableHandle]:
        """Hooks that do it, to be removed at the end; what else hooks the transformer sees a turn at a time if it was
        registered later. before: told of each call with all rows."""

        @torch.compiler.disable  # type: ignore[untyped-decorator]
        def narrow(module: nn.Module, args: Any, call: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            if self._turning or not self.adapter.denoises(call):
                return args, call
            if before is not None:
                before(call)
            self.bank.forget()  # what a call that broke off has left
            self._call = call
            return args, self._turn(0)

        return [
            transformer.register_forward_pre_hook(narrow, with_kwargs=True),
            transformer.register_forward_hook(self._widen),
        ]

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _widen(self, module: nn.Module, args: Any, output: Any) -> Any:
        """Has the other turns made, and puts what came of all into the rows of the batch."""
        if self._turning or self._call is None:
            return output
        outputs = [output]
        self._turning = True
        try:
            outputs += [module(**self._turn(i)) for i in range(1, len(self.turns()))]
        finally:
            self._turning = False
        batch = len(self.adapter.latents(self._call))
        rows = [self._rows(turn, batch) for turn in self.turns()]
        whole = _whole(batch, rows, [_prediction(made) for made in outputs])
        self._call = None
        self.bank.forget()
        if isinstance(output, Tensor):
            return whole
        return (whole, *output[1:]) if isinstance(output, tuple) else type(output)(whole)

    def _turn(self, number: int) -> dict[str, Any]:
        """The call under way for the particles of one turn. In the calls of one step with the same latents, theirs are
        the same tensor, too."""
        assert self._call is not None
        latents, turns = self.adapter.latents(self._call), self.turns()
        turn = turns[number]
        self.bank.turn, self.bank.last = turn if isinstance(turn, range) else None, number + 1 == len(turns)
        if self._latents is not latents:
            self._latents, self._parts = latents, {}
        call = self.adapter.rows(self._call, self._rows(turn, len(latents)), len(latents))
        if "hidden_states" in call:
            call["hidden_states"] = self._parts.setdefault(number, call["hidden_states"])
        return call

    def _rows(self, turn: Turn, batch: int) -> list[int]:
        """Of a batch with all parts of the guidance, which belong to these particles."""
        return [part * self.m + i for part in range(batch // self.m) for i in turn]


def _prediction(output: Any) -> Tensor | list[Tensor]:
    """What a transformer returns is it, or has it as its first entry: a tensor, or a list of one for each row."""
    prediction: Tensor | list[Tensor] = output if isinstance(output, Tensor) else output[0]
    return prediction


def _whole(batch: int, rows: Sequence[Turn], parts: Sequence[Tensor | list[Tensor]]) -> Tensor | list[Tensor]:
    """A prediction for all rows of a batch, of parts for some rows each; 0 for those that are in none."""
    first = parts[0]
    whole = [torch.zeros_like(first[0]) for _ in range(batch)]
    for some, part in zip(rows, parts, strict=True):
        for row, made in zip(some, part, strict=True):
            whole[row] = made
    return whole if isinstance(first, list) else torch.stack(whole)
