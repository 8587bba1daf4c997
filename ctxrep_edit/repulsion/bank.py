"""Repulsion from particles that are finished, by the contextual tokens that they had.

At each block where particles repel, the tokens of the finished ones are joined to those of the new ones as fixed
particles; the new ones alone come out and go on through the transformer. Nothing of the finished is sampled again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ctxrep_edit.errors import RepulsionError
from ctxrep_edit.repulsion.ascent import Moved, repel_parts
from ctxrep_edit.repulsion.tokens import Part

Place = tuple[int, int, int, int]
"""Where tokens were: step, call of the transformer in that step, hooked block, and group of particles in the batch."""
Memory = dict[Place, Tensor]
"""What one particle had at each place: (selected, dim), on the host, in the model's dtype."""


@dataclass
class Bank:
    """Candidates that repel new ones without being sampled again, and those of the run under way.

    kept: the memories of candidates that are done, by their number in the set. made: the memories of the particles of
    the run under way, in their order, noted where `noting`.

    Tokens are those that the block returned, before the repulsion of that block. That is what the particles of one
    batch see of one another, and spreads no less than the tokens after it. They take, per candidate, the size of the
    selected tokens times the blocks and the steps in which particles repel.
    """

    noting: bool = True
    kept: dict[int, Memory] = field(default_factory=dict)
    made: list[Memory] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.kept)

    def join(self, candidates: Sequence[int]) -> None:
        """Keeps the particles of the last run under these numbers, in order; none where the run noted none.

        Raises RepulsionError where it noted another number of them.
        """
        if self.made and len(self.made) != len(candidates):
            raise RepulsionError(
                f"The bank has noted {len(self.made)} particles, but {len(candidates)} candidates were made: a "
                "strategy hands it to `repelled` with particles=run.n, or not at all."
            )
        self.kept.update(zip(candidates, self.made, strict=False))
        self.made = []

    def leave(self, candidates: Collection[int]) -> None:
        """Forgets these candidates."""
        self.kept = {number: memory for number, memory in self.kept.items() if number not in candidates}

    def repel(self, place: Place, parts: Sequence[Part], *, fixed: int, **options: Any) -> Moved:
        """`ascent.repel_parts` of new particles from one another and from the k kept ones; where k is 0, just that.

        parts: where the new particles' tokens lie. fixed: how many of the first new particles stay in place. options:
        of `repel_parts`. Returns the new particles' tokens; scores and strength are of all particles: the scores lie
        between 1 and k + n.
        Raises RepulsionError where a kept candidate has no tokens of that place, or of another shape.
        """
        own = torch.cat([part.selected for part in parts], 1) if self.noting or self.kept else None
        if own is not None and self.noting:
            self._note(place, own)
        if own is None or not self.kept:
            return repel_parts(parts, fixed=fixed, **options)
        k = len(self.kept)
        everyone = Part(torch.cat([self._kept_at(place, own), own]))  # (k + n, selected, dim)
        (moved,), before, after = repel_parts([everyone], fixed=k + fixed, **options)
        sizes = [part.selected.shape[1] for part in parts]
        pieces = zip(parts, torch.split(moved[k:], sizes, 1), strict=True)
        return [part.put(tokens) for part, tokens in pieces], before, after

    def _note(self, place: Place, own: Tensor) -> None:
        if len(self.made) != len(own):
            self.made = [{} for _ in own]
        for memory, row in zip(self.made, own, strict=True):
            memory[place] = row.detach().to("cpu", copy=True)  # (selected, dim), each with a storage of its own

    def _kept_at(self, place: Place, own: Tensor) -> Tensor:
        """(k, selected, dim), with the device and dtype of `own`, (n, selected, dim)."""
        rows = []
        for number, memory in self.kept.items():
            row = memory.get(place)  # (selected, dim)
            if row is None or row.shape != own.shape[1:]:
                had = "none of it" if row is None else f"{tuple(row.shape)} of kept candidate {number}"
                raise RepulsionError(
                    f"Particles have {tuple(own.shape[1:])} (tokens, dim) to repel after hooked block {place[2]} in "
                    f"step {place[0]}, but the bank has {had}: make new candidates with the size, scope, steps, "
                    "guidance and instruction of those that are kept."
                )
            rows.append(row)
        return torch.stack(rows).to(own)
