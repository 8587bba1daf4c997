"""A batch that passes through the transformer a few particles at a time, each repelled from those before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ctxrep_edit.plugins.adapter import Adapter
from ctxrep_edit.repulsion.answers import Prediction, instead, prediction, rows_of
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
        self._after: Callable[[Any], None] | None = None

    def hooked(
        self,
        transformer: nn.Module,
        before: Callable[[Mapping[str, Any]], None] | None = None,
        after: Callable[[Any], None] | None = None,
    ) -> list[RemovableHandle]:
        """Hooks that do it, to be removed at the end; what else hooks the transformer sees a turn at a time if it was
        registered later. before: told of each call with all rows. after: of what came of it, for all rows."""
        self._after = after

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
        rows = [rows_of(turn, self.m, batch) for turn in self.turns()]
        whole = instead(output, _whole(batch, rows, [prediction(made) for made in outputs]))
        self._call = None
        self.bank.forget()
        if self._after is not None:
            self._after(whole)
        return whole

    def _turn(self, number: int) -> dict[str, Any]:
        """The call under way for the particles of one turn. In the calls of one step with the same latents, theirs are
        the same tensor, too."""
        assert self._call is not None
        latents, turns = self.adapter.latents(self._call), self.turns()
        turn = turns[number]
        self.bank.turn, self.bank.last = turn if isinstance(turn, range) else None, number + 1 == len(turns)
        if self._latents is not latents:
            self._latents, self._parts = latents, {}
        call = self.adapter.rows(self._call, rows_of(turn, self.m, len(latents)), len(latents))
        if "hidden_states" in call:
            call["hidden_states"] = self._parts.setdefault(number, call["hidden_states"])
        return call


def _whole(batch: int, rows: Sequence[Turn], parts: Sequence[Prediction]) -> Prediction:
    """A prediction for all rows of a batch, of parts for some rows each; 0 for those that are in none."""
    first = parts[0]
    whole = [torch.zeros_like(first[0]) for _ in range(batch)]
    for some, part in zip(rows, parts, strict=True):
        for row, made in zip(some, part, strict=True):
            whole[row] = made
    return whole if isinstance(first, list) else torch.stack(whole)
