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


def layout(images: Tensor) -> Tensor:
    """The features by which edits are told apart, (n, features), of images (n, 3, h, w) in [0, 1]."""
    return catalog.EMBEDDERS.get(LAYOUT).embed(images)


@dataclass(frozen=True)
class Distances:
    """between: one minus the cosine of the features of each two pictures, (k + n, k + n). bound: what is farther is
    another edit. known: k, pictures that come first and are only there to be repeated."""

    between: Tensor
    bound: float
    known: int = 0

    @classmethod
    def of(cls, features: Tensor, bound: float, known: int = 0) -> Distances:
        """features: (k + n, features)."""
        rows = features.double()
        rows = rows / rows.norm(dim=1, keepdim=True)
        return cls(1 - rows @ rows.T, bound, known)

    @classmethod
    def by_layout(cls, images: Tensor, known: Tensor | None = None) -> Distances:
        """images: (n, 3, h, w) in [0, 1]. known: the `layout` of pictures that come before them, (k, features)."""
        import torch

        features, bound = layout(images), catalog.EMBEDDERS.get(LAYOUT).apart or 0.0
        if known is None:
            return cls.of(features, bound)
        return cls.of(torch.cat([known, features]), bound, len(known))

    def repeats(self, last: Sequence[int] = ()) -> list[int]:
        """Which of the n are one edit with another that is counted before them, in their order. last: which are counted
        after the others."""
        n, counted = len(self.between) - self.known, [*range(-self.known, 0)]
        for i in (*(i for i in range(n) if i not in last), *last):
            if all(self.between[self.known + i, self.known + j] > self.bound for j in counted):
                counted.append(i)
        return [i for i in range(n) if i not in counted]

    @property
    def agreed(self) -> bool:
        """Whether nearly all are one edit, so that what differs has missed the words."""
        n = len(self.between)
        return n >= 4 and bool((self.between <= self.bound).sum(1).max() >= AGREED * n)
