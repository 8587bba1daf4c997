"""Repulsion from particles that are finished, by the contextual tokens that they had.

At each block where particles repel, the tokens of the finished ones are joined to those of the new ones as fixed
particles; the new ones alone come out and go on through the transformer. Nothing of the finished is sampled again.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.nn.functional import pad

from ctxrep_edit.errors import InputError, RepulsionError
from ctxrep_edit.repulsion.ascent import Moved, repel_parts
from ctxrep_edit.repulsion.room import Room
from ctxrep_edit.repulsion.tokens import Matrix, Part, inner_products

Place = tuple[int, int, int, int]
"""Where tokens were: step, call of the transformer in that step, hooked block, and group of particles in the batch."""
Memory = dict[Place, Tensor]
"""What one particle had at each place: (selected, dim), on the host, in the model's dtype."""
Left = dict[int, tuple[Memory | None, Tensor | None, Any]]
"""What was known of candidates, by their number: the memory, the clean latents, and the noise."""

SPARE = 1 / 8
"""Of the free memory, what a bank may take that nothing but `EditSet.more` needs."""


@dataclass
class Bank:
    """Candidates that repel new ones without being sampled again, and those of the run under way.

    kept: the memories of candidates that are done, by their number in the set. made: the memories of the particles of
    the run under way, in their order, noted where `noting`. clean: of the kept ones, by number, the clean latents that
    their velocity pointed at when they were chosen from a pool, (numbers,) on the host. noises: of the kept ones, by
    number, the noise that they started from, None where that is a seed's, see `sampling.noise.Noise`, and their churn;
    none where there is neither.

    passing: those of the turns before, in the call of the transformer under way.

    turn: which particles of the run under way pass through the transformer, where not all of them do at once; those
    before them, whose tokens are noted, repel them too. last: whether no others follow, so that theirs need not be
    noted. handed: whether a repulsion was attached with it.

    on_disk: whether tokens lie in files that the system reads in as they are needed; these are in the folder for
    temporary files, without a name, and gone with the tokens. expected: how many candidates will be kept in all, where
    that is known; what they take is then foreseen, and said where it does not fit. spare: whether nothing needs them
    yet, so that they are not noted where they would take more than `SPARE` of what is free. worded: whether candidates
    are asked for in words of their own, so that they may have other numbers of text tokens; see `_worded`. passed:
    whether those of the run under way have been through the window in an earlier one, so that nothing repels.

    Of candidates that are done the tokens are those that they went on with, after the repulsion of that block: set
    again, they give the candidate again. Of the turns before, in one call of the transformer, they are those before
    it, which is what the particles of one batch see of one another. They take, per candidate, the size of the selected
    tokens times the blocks and the steps in which particles repel.
    """

    noting: bool = True
    kept: dict[int, Memory] = field(default_factory=dict)
    made: list[Memory] = field(default_factory=list)
    passing: list[Memory] = field(default_factory=list)
    clean: dict[int, Tensor] = field(default_factory=dict)
    noises: dict[int, Any] = field(default_factory=dict)
    turn: range | None = None
    last: bool = False
    handed: bool = False
    on_disk: bool = False
    expected: int = 0
    spare: bool = False
    worded: bool = False
    passed: bool = False
    _starting: int = 0  # particles of the run under way, where it is a pool
    _afar: bool = False  # whether tokens of the turns before leave the device
    _clean: Sequence[Tensor] = ()
    _noises: Sequence[Any] = ()
    _rooms: dict[int, Room] = field(default_factory=dict)  # by particle of the run under way, on a GPU
    _passage: dict[int, Room] = field(default_factory=dict)  # likewise, of the call under way
    _products: dict[Place, Matrix] = field(default_factory=dict)  # in that call, of all particles of the turns before

    def __len__(self) -> int:
        return len(self.kept)

    def started(self, noises: Sequence[Any]) -> None:
        """Notes of the run under way the noise and the churn of its particles, as `noises` has them."""
        self._noises = [*noises]

    def pooled(self, m: int, *, afar: bool) -> None:
        """Is told of the run under way that m particles start in it. afar: whether their tokens leave the device
        between two turns, as there may be many."""
        self._starting, self._afar = m, afar

    def choose(self, rows: Sequence[int], clean: Tensor) -> None:
        """Keeps, of the run under way, these particles alone. clean: their clean latents, (rows, numbers)."""
        self.made = [self.made[row] for row in rows] if self.made else []
        self._rooms.clear()
        self._clean = [*clean]
        self._noises = [self._noises[row] for row in rows] if self._noises else []

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
        self.noises.update(zip(candidates, self._noises, strict=False))
        self.drop()

    def leave(self, candidates: Collection[int]) -> Left:
        """Forgets these candidates, and returns what it knew of each."""
        kept, clean, noises = self.kept, self.clean, self.noises
        return {i: (kept.pop(i, None), clean.pop(i, None), noises.pop(i, None)) for i in candidates}

    def take_back(self, left: Left) -> None:
        """Keeps candidates again that it has left, and forgets what it has of their numbers since."""
        self.leave(left)
        self.kept |= {number: memory for number, (memory, _, _) in left.items() if memory is not None}
        self.clean |= {number: clean for number, (_, clean, _) in left.items() if clean is not None}
        self.noises |= {number: noise for number, (_, _, noise) in left.items() if noise is not None}

    def drop(self) -> None:
        """Forgets the run under way; what is to be kept of it is joined before."""
        self.made, self._clean, self._noises = [], (), ()
        self._starting, self._afar = 0, False
        self._rooms.clear()
        self.forget()

    def repel(self, place: Place, parts: Sequence[Part], *, fixed: int, **options: Any) -> Moved:
        """`ascent.repel_parts` of new particles from one another and from the k kept ones; where k is 0, just that.

        parts: where the new particles' tokens lie. fixed: how many of the first new particles stay in place. options:
        of `repel_parts`. Returns the new particles' tokens; scores and strength are of all particles: the scores lie
        between 1 and k + n. Of the kept ones' tokens the device holds a few positions at a time.
        Raises RepulsionError where a kept candidate has no tokens of that place, or of another shape; InputError where
        what is to be noted will not fit.
        """
        if self.turn and not self.last:
            self._note(self.passing, place, parts)
        others = {f"kept candidate {number}": memory for number, memory in self.kept.items()}
        for row in range(self.turn.start if self.turn else 0):
            others[f"particle {row}"] = self.passing[row]
        rows = _at(place, others, parts, self.worded)
        joined, first = [], 0
        for part in parts:
            width = part.tokens.shape[2]
            joined.append(replace(part, before=[row[first : first + part.length, :width] for row in rows]))
            first += part.length
        gram = None
        if self.turn:  # those before are the same in each turn
            with torch.no_grad():
                gram = self._products[place] = inner_products(joined, self._products.get(place))
        moved, score, after = repel_parts(joined, fixed=len(rows) + fixed, gram=gram, **options)
        if self.noting:
            self._note(self.made, place, [replace(part, tokens=some) for part, some in zip(parts, moved, strict=True)])
        return moved, score, after

    def forget(self) -> None:
        """Forgets what was noted for the turns of one call of the transformer alone."""
        self.turn, self.last, self.passing = None, False, []
        self._passage.clear()
        self._products.clear()

    def _note(self, memories: list[Memory], place: Place, parts: Sequence[Part]) -> None:
        width = _width(parts)
        own = torch.cat([pad(part.selected, (0, width - part.tokens.shape[2])) for part in parts], 1)
        own = own.to(parts[0].tokens.dtype)  # (n, selected, dim)
        turn = self.turn or range(len(own))
        if turn.start == 0 and memories and place in memories[0]:  # another run
            memories.clear()
        while len(memories) < turn.stop:
            memories.append({})
        rooms = self._rooms if memories is self.made else self._passage
        for row, tokens in zip(turn, own.detach(), strict=True):
            # what later rounds need leaves the device; each has a storage of its own
            leaves = memories is self.made or self._afar
            memories[row][place] = self._stored(row, tokens, rooms) if leaves else tokens.clone()

    def _stored(self, row: int, tokens: Tensor, rooms: dict[int, Room]) -> Tensor:
        """A copy of a particle's tokens on the host, (selected, dim), or in a file."""
        if not self.on_disk:
            if tokens.device.type != "cuda":
                return tokens.to("cpu", copy=True)
            return rooms.setdefault(row, Room()).copy(tokens)
        handle, file = tempfile.mkstemp(prefix="ctxrep-bank-")
        os.close(handle)
        try:
            room = torch.from_file(file, shared=True, size=tokens.numel(), dtype=tokens.dtype, device="cpu")
        finally:
            with suppress(OSError):  # Windows keeps the names of files that are open
                os.unlink(file)
        return room.view(tokens.shape).copy_(tokens)

    def foresee(self, each: int, passing: int) -> None:
        """Finds out, before anything is noted, whether the tokens of all expected candidates will fit, and those that
        pass: those of each take so many bytes, and in one call `passing`. Raises InputError."""
        noted = each * max(self._starting, self.expected - len(self.kept)) if self.noting else 0
        total = noted + (passing * self._starting if self._afar else 0)
        where, free = "the memory", psutil.virtual_memory().available
        if self.on_disk:
            where, free = f"the disk of {tempfile.gettempdir()}", shutil.disk_usage(tempfile.gettempdir()).free
        if self.spare and total > free * SPARE:
            self.noting, total = False, total - noted
        if total > free:
            mend = "a larger disk, by TMPDIR" if self.on_disk else "bank='disk'"
            count = max(self._starting, self.expected)
            raise InputError(
                f"The contextual tokens of {count} candidates, which repel later ones, take {_gib(total)}, "
                f"{_gib(total / count)} each, but only {_gib(free)} of {where} are free: take {mend}, a scope of fewer "
                "tokens such as 'context', or fewer edits."
            )


def _gib(size: float) -> str:
    return f"{size / 2**30:.2g} GiB"


def _width(parts: Sequence[Part]) -> int:
    """Of the tokens that are noted: some parts have fewer channels, and zeros add nothing to a product."""
    return max(part.tokens.shape[2] for part in parts)


def _worded(row: Tensor, parts: Sequence[Part]) -> Tensor:
    """What a candidate had that was asked for in other words, (tokens, dim), as if it had as many tokens of text as the
    parts: the last ones are left out, or zeros come after them, which add nothing to a product. Those of the image are
    as many for all, and come after the text's."""
    image = parts[-1].length if len(parts) > 1 else 0
    missing = sum(part.length for part in parts) - len(row)
    text = row[: len(row) - image]  # (text, dim)
    return row if missing == 0 else torch.cat([pad(text, (0, 0, 0, missing)), row[len(row) - image :]])


def _at(place: Place, others: Mapping[str, Memory], parts: Sequence[Part], worded: bool) -> list[Tensor]:
    """What each of the others had there: (selected, dim), of all parts together."""
    shape = sum(part.length for part in parts), _width(parts)
    rows = []
    for name, memory in others.items():
        row = memory.get(place)  # (selected, dim)
        if worded and row is not None:
            row = _worded(row, parts)
        if row is None or row.shape != shape:
            had = f"{'none' if row is None else tuple(row.shape)} of {name}"
            raise RepulsionError(
                f"Particles have {shape} (tokens, dim) to repel after hooked block {place[2]} in step {place[0]}, but "
                f"the bank has {had}: make new candidates with the size, scope, window, guidance and instruction of "
                "those that are kept."
            )
        rows.append(row)
    return rows
