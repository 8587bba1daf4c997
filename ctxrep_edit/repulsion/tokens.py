"""The particles' tokens, of which the ascent needs two things: their inner products, and one mix of them.

Particles are nearly parallel: what they differ in is small beside what they share. The inner products are therefore
those of their differences from the first one, which fill the digits of float32, and of the first one itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Matrix = npt.NDArray[np.float64]

NULL_NORM = 1e-12  # of the largest particle's norm; below it a particle has no direction to speak of
CANCELLED = 1e-4  # of the largest particle's squared norm; below it, rounding has spoilt what was added up
CPU_BLOCK = 2**18  # numbers that are worked on at a time: a MiB, stays in the cache
DEVICE_BLOCK = 2**25  # the same on an accelerator: 128 MiB, few kernel launches


@dataclass(frozen=True)
class Part:
    """A tensor that holds tokens of n particles. tokens: (n, tokens, dim).

    where: the positions that take part, a slice or int64 (selected,); None: all. rows: bool (n, tokens), where the
    particles differ in that; what is False counts as zero and stays. before: of k further particles, which come first
    and stay, the tokens that take part: (selected, dim) each, on any device. They are read piece by piece.
    """

    tokens: Tensor
    where: slice | Tensor | None = None
    rows: Tensor | None = None
    before: Sequence[Tensor] = ()

    @classmethod
    def of(cls, tokens: Tensor, mask: Tensor | None) -> Part:
        """mask: bool (tokens,) or (n, tokens); None: all take part."""
        if mask is None:
            return cls(tokens)
        mask = mask.to(tokens.device)
        rows = mask if mask.ndim == 2 else None
        return cls(tokens, positions(mask if rows is None else rows.any(0)), rows)

    def __len__(self) -> int:
        """How many particles: k + n."""
        return len(self.before) + len(self.tokens)

    @property
    def selected(self) -> Tensor:
        """The tokens that take part: (n, selected, dim)."""
        return self.tokens if self.where is None else self.tokens[:, self.where]

    def put(self, selected: Tensor) -> Tensor:
        """The tokens with these, (n, selected, dim), in the place of those that take part."""
        if self.where is None:
            return selected
        out = self.tokens.clone()
        out[:, self.where] = selected
        return out

    @property
    def first(self) -> int:
        """How many particles come before those in `tokens`."""
        return len(self.before)

    @property
    def length(self) -> int:
        """How many tokens of each particle take part."""
        if isinstance(self.where, slice):
            return int(self.where.stop - self.where.start)
        return self.tokens.shape[1] if self.where is None else len(self.where)

    def blocks(self) -> Iterator[tuple[slice | Tensor, Tensor]]:
        """The tokens that take part, a few positions at a time: (where, (k + n, positions, dim)).

        In float32, or float64 for tokens of that dtype, and the caller's to change: the next ones take their place, as
        fresh memory costs more than the work done on it.
        """
        dim, length = self.tokens.shape[2], self.length
        begin = self.where.start if isinstance(self.where, slice) else 0
        numbers = CPU_BLOCK if self.tokens.device.type == "cpu" else DEVICE_BLOCK
        size = max(1, numbers // max(1, len(self) * dim))
        dtype = torch.promote_types(self.tokens.dtype, torch.float32)
        whole = torch.empty(len(self) * min(size, length) * dim, dtype=dtype, device=self.tokens.device)
        for first in range(0, length, size):
            here = slice(first, min(first + size, length))
            shifted = slice(begin + here.start, begin + here.stop)
            where = self.where[here] if isinstance(self.where, Tensor) else shifted
            shape = len(self), here.stop - here.start, dim
            room = whole[: math.prod(shape)].view(shape)
            for row, before in zip(room, self.before, strict=False):
                row.copy_(before[here], non_blocking=True)
            block = self.tokens[:, where]  # (n, positions, dim)
            if self.rows is not None:
                block = block.masked_fill(~self.rows[:, where, None], 0.0)
            room[len(self.before) :] = self.of_all(block)
            yield where, room

    def of_all(self, block: Tensor) -> Tensor:
        """The tokens (n, positions, dim) of all particles that are not `before`, of those that lie here."""
        return block


def pooled(part: Part) -> Part:
    """The selected tokens as one: their mean times the root of their number, (n, 1, dim), in float32 at least.

    Its inner products are those of the tokens with everything taken away that is not alike in all of them.
    """
    selected = part.selected
    dtype = torch.promote_types(selected.dtype, torch.float32)
    return Part(selected.mean(1, keepdim=True, dtype=dtype) * selected.shape[1] ** 0.5)


def spread(part: Part, one: Part, moved: Tensor, *, keep_norm: bool, fixed: int) -> Tensor:
    """The tokens of `part` with each selected one moved as `one`, what `pooled` made of them, was: to `moved`."""
    if moved is one.tokens:
        return part.tokens
    selected = part.selected  # (n, k, dim)
    out = selected + (moved - one.tokens) / selected.shape[1] ** 0.5
    if keep_norm:
        norms = (torch.linalg.vector_norm(x, dim=-1, keepdim=True) for x in (selected, out))  # (n, k, 1) each
        had, has = (norm.to(out.dtype) for norm in norms)
        out *= had / torch.where(has > 0, has, 1.0)
    out = out.to(selected.dtype)
    out[:fixed] = selected[:fixed]
    return part.put(out)


def positions(mask: Tensor) -> slice | Tensor | None:
    """Where a mask, bool (tokens,), is True: a slice if that is one run, else int64 (selected,); None: all."""
    found = mask.nonzero().flatten()  # (selected,)
    if len(found) == len(mask):
        return None
    first, last = (int(found[0]), int(found[-1])) if len(found) else (0, -1)
    return slice(first, last + 1) if last - first + 1 == len(found) else found


def inner_products(parts: Sequence[Part], known: Matrix | None = None) -> Matrix:
    """Of the n particles, over the selected tokens of all parts: (n, n) float64. known: those of the first k."""
    n, k = len(parts[0]), 0 if known is None else len(known)
    total: Tensor | None = None
    for part in parts:
        for _, room in part.blocks():  # (n, positions, dim)
            _take_first_out(room)
            flat = room.flatten(1)  # (n, positions * dim)
            sums = flat[k:] @ flat.T  # (n - k, n)
            sums = sums if sums.device.type == "mps" else sums.double()  # which has no float64
            total = sums if total is None else total.add_(sums)
    if total is None:
        return np.zeros((n, n))
    inner: Matrix = total.cpu().double().numpy()  # (n - k, n)
    if not np.isfinite(inner).all():
        unknown: Matrix = np.full((n, n), np.nan)
        np.fill_diagonal(unknown, _squared_norms(parts))  # says which
        return unknown
    if known is None:
        known, inner = inner[:1, :1].copy(), inner[1:]
    k, first = len(known), known[0, 0]
    along = np.concatenate([known[0] - first, inner[:, 0]])  # (n,) of the differences from the first particle with it
    inner[:, 0] = 0.0
    gram: Matrix = np.empty((n, n))
    gram[:k, :k] = known
    gram[k:] = inner + along[k:, None] + along + first
    gram[:k, k:] = gram[k:, :k].T
    squared = gram.diagonal()  # (n,)
    if squared.min() <= CANCELLED * squared.max():
        exact = _squared_norms(parts)  # (n,)
        np.fill_diagonal(gram, exact)
        empty = exact <= NULL_NORM**2 * exact.max()
        gram[empty], gram[:, empty] = 0.0, 0.0
    return gram


def mixed(part: Part, mix: Matrix, *, keep_norm: bool, fixed: int) -> Tensor:
    """C X on the selected tokens, rounded to their dtype once; all others, and the first `fixed` rows, are copied.

    mix: C, (n, n), those before counted, which have no part in the result. As sum_j C_ij c_j = (sum_j C_ij) c_1 +
    sum_j>1 C_ij (c_j - c_1), float32 loses nothing to mixes in which large parts cancel.
    """
    tokens, first = part.tokens, part.first
    own = slice(max(first, fixed), first + len(tokens))  # of all particles, those that move here
    still, mix = own.start - first, mix[own].copy()
    mix[:, 0] = mix.sum(1)
    if part.where is None:
        out = torch.empty_like(tokens)
        out[:still] = tokens[:still]
    else:
        out = tokens.clone()
    C: Tensor | None = None
    moved = tokens.new_empty(0)
    for where, room in part.blocks():  # (n, positions, dim)
        C = torch.from_numpy(mix).to(room.dtype).to(room.device) if C is None else C  # (own, n)
        if moved.shape[1:] != room.shape[1:]:
            moved = room.new_empty(len(C), *room.shape[1:])  # (own, k, dim)
        wanted = torch.linalg.vector_norm(room[own], dim=-1, keepdim=True) if keep_norm else None  # (own, k, 1)
        _take_first_out(room)
        torch.mm(C, room.flatten(1), out=moved.flatten(1))
        if wanted is not None:
            norm = torch.linalg.vector_norm(moved, dim=-1, keepdim=True)  # (own, k, 1)
            moved *= torch.where(norm > 0, wanted / norm, 1.0)
        if part.rows is None:
            out[still:, where] = moved.to(out.dtype)
        else:
            out[still:, where] = torch.where(part.rows[still:, where, None], moved.to(out.dtype), tokens[still:, where])
    return out


def _take_first_out(room: Tensor) -> None:
    """Leaves the first particle, and of the others their difference from it: (n, k, dim)."""
    room[1:] -= room[:1]


def _squared_norms(parts: Sequence[Part]) -> Matrix:
    """|c_i|^2, (n,) float64, each by itself."""
    total = np.zeros(len(parts[0]))
    for part in parts:
        for _, room in part.blocks():
            total += room.cpu().double().square().sum((1, 2)).numpy()
    return total
