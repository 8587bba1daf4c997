"""Repulsion from particles that are finished, by the contextual tokens that they had.

At each block where particles repel, the tokens of the finished ones are joined to those of the new ones as fixed
particles; the new ones alone come out and go on through the transformer. Nothing of the finished is sampled again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

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
    the run under way, in their order, noted where `noting`. clean: of the kept ones, by number, the clean latents that
    their velocity pointed at when they were chosen from a pool, (numbers,) on the host.

    turn: which particles of the run under way pass through the transformer, where not all of them do at once; those
    before them, whose tokens are noted, repel them too. last: whether no others follow, so that theirs need not be
    noted. noted: whether any were.

    Tokens are those that the block returned, before the repulsion of that block. That is what the particles of one
    batch see of one another, and spreads no less than the tokens after it. They take, per candidate, the size of the
    selected tokens times the blocks and the steps in which particles repel.
    """

    noting: bool = True
    kept: dict[int, Memory] = field(default_factory=dict)
    made: list[Memory] = field(default_factory=list)
    clean: dict[int, Tensor] = field(default_factory=dict)
    turn: range | None = None
    last: bool = False
    noted: bool = False
    _clean: Sequence[Tensor] = ()

    def __len__(self) -> int:
        return len(self.kept)

    def choose(self, rows: Sequence[int], clean: Tensor) -> None:
        """Keeps, of the run under way, these particles alone. clean: their clean latents, (rows, numbers)."""
        self.made = [self.made[row] for row in rows] if self.made else []
        self._clean = [*clean]

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
        self.clean.update(zip(candidates, self._clean, strict=False))
        self.made, self._clean = [], ()

    def leave(self, candidates: Collection[int]) -> None:
        """Forgets these candidates."""
        for number in candidates:
            self.kept.pop(number, None)
            self.clean.pop(number, None)

    def repel(self, place: Place, parts: Sequence[Part], *, fixed: int, **options: Any) -> Moved:
        """`ascent.repel_parts` of new particles from one another and from the k kept ones; where k is 0, just that.

        parts: where the new particles' tokens lie. fixed: how many of the first new particles stay in place. options:
        of `repel_parts`. Returns the new particles' tokens; scores and strength are of all particles: the scores lie
        between 1 and k + n.
        Raises RepulsionError where a kept candidate has no tokens of that place, or of another shape.
        """
        if not (self.noting or self.kept or self.turn):
            return repel_parts(parts, fixed=fixed, **options)
        width = max(part.tokens.shape[-1] for part in parts)  # some have fewer channels; zeros add nothing to a product
        own = torch.cat([pad(part.selected, (0, width - part.tokens.shape[-1])) for part in parts], 1)
        if self.noting or (self.turn and not self.last):
            self._note(place, own.to(parts[0].tokens.dtype))
        others = {f"kept candidate {number}": memory for number, memory in self.kept.items()}
        for row in range(self.turn.start if self.turn else 0):
            others[f"particle {row}"] = self.made[row]
        if not others:
            return repel_parts(parts, fixed=fixed, **options)
        k = len(others)
        everyone = Part(torch.cat([_at(place, others, own), own]))  # (k + n, selected, dim)
        (moved,), before, after = repel_parts([everyone], fixed=k + fixed, **options)
        sizes = [part.selected.shape[1] for part in parts]
        pieces = zip(parts, torch.split(moved[k:], sizes, 1), strict=True)
        back = [part.put(tokens[..., : part.tokens.shape[-1]].to(part.tokens.dtype)) for part, tokens in pieces]
        return back, before, after

    def forget(self) -> None:
        """Forgets what was noted for the turns of one call of the transformer alone."""
        self.turn, self.last = None, False
        if not self.noting:
            self.made = []

    def _note(self, place: Place, own: Tensor) -> None:
        turn = self.turn or range(len(own))
        if turn.start == 0 and self.made and place in self.made[0]:  # another run
            self.made = []
        self.noted = True
        while len(self.made) < turn.stop:
            self.made.append({})
        for row, tokens in zip(turn, own, strict=True):
            # what later rounds need leaves the device; each has a storage of its own
            self.made[row][place] = tokens.detach().to("cpu" if self.noting else tokens.device, copy=True)


def _at(place: Place, others: Mapping[str, Memory], own: Tensor) -> Tensor:
    """What the k others had there, (k, selected, dim), with the device and dtype of `own`, (n, selected, dim)."""
    rows = []
    for name, memory in others.items():
        row = memory.get(place)  # (selected, dim)
        if row is None or row.shape != own.shape[1:]:
            had = f"{'none' if row is None else tuple(row.shape)} of {name}"
            raise RepulsionError(
                f"Particles have {tuple(own.shape[1:])} (tokens, dim) to repel after hooked block {place[2]} in step "
                f"{place[0]}, but the bank has {had}: make new candidates with the size, scope, window, guidance and "
                "instruction of those that are kept."
            )
        rows.append(row.to(own))
    return torch.stack(rows)
