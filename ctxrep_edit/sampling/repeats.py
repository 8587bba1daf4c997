"""Which pictures of a set are one edit twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxrep_edit.plugins import catalog

if TYPE_CHECKING:
    from torch import Tensor

LAYOUT = "alexnet-layout"
"""The embedder by whose features edits are told apart."""
AGREED = 0.75
"""Share of a set of four or more; where so many are one edit, the words leave nothing open."""


@dataclass(frozen=True)
class Distances:
    """between: one minus the cosine of the features of each two pictures, (n, n). bound: what is farther is another
    edit."""

    between: Tensor
    bound: float

    @classmethod
    def of(cls, features: Tensor, bound: float) -> Distances:
        """features: (n, features)."""
        rows = features.double()
        rows = rows / rows.norm(dim=1, keepdim=True)
        return cls(1 - rows @ rows.T, bound)

    @classmethod
    def by_layout(cls, images: Tensor) -> Distances:
        """images: (n, 3, h, w) in [0, 1]."""
        embedder = catalog.EMBEDDERS.get(LAYOUT)
        return cls.of(embedder.embed(images), embedder.apart or 0.0)

    def repeats(self, last: Sequence[int] = ()) -> list[int]:
        """Those that are one edit with another that is counted before them, in their order. last: which are counted
        after the others."""
        n, counted = len(self.between), list[int]()
        for i in (*(i for i in range(n) if i not in last), *last):
            if all(self.between[i, j] > self.bound for j in counted):
                counted.append(i)
        return [i for i in range(n) if i not in counted]

    @property
    def agreed(self) -> bool:
        """Whether nearly all are one edit, so that what differs has missed the words."""
        n = len(self.between)
        return n >= 4 and bool((self.between <= self.bound).sum(1).max() >= AGREED * n)
