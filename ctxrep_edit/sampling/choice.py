"""Which candidates of a pool go on: those that stand for all that differ in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Matrix = npt.NDArray[np.float64]

AGREED = 0.75  # share of the candidates; where so many agree, the words leave nothing open, and the others missed them
NEAR = 0.3  # of the largest distance from the middle one; what is nearer agrees with it


def choose(points: Tensor, away: Tensor, first: Sequence[int], count: int) -> list[int]:
    """`count` of the points, (m, numbers), `first` among them: medoids, from which all points are as near as can be.

    away: (k, numbers), medoids that are there already; it or `first` is not empty. They are found farthest first and
    then exchanged as long as that brings the sum of squared distances down (k-medoids; Kaufman and Rousseeuw 1990).
    Farthest-first alone likes what lies far off for being broken; where nearly all points agree it would take just
    that, so that there the others have no part in it. Returns their numbers, rising.
    """
    everything = torch.cat([points, away])
    distances = torch.cdist(points, everything, compute_mode="donot_use_mm_for_euclid_dist")  # (m, m + k)
    squared: Matrix = distances.double().numpy() ** 2
    m = len(points)
    open_to = _agreeing(distances.double().numpy()[:, :m], count)
    open_to = sorted({*first, *open_to})
    fixed = [*first, *range(m, len(everything))]
    chosen = list(first)
    while len(chosen) < count:
        nearest = squared[:, [*chosen, *range(m, len(everything))]].min(1)  # (m,)
        left = [i for i in open_to if i not in chosen]
        chosen.append(max(left, key=lambda i: nearest[i]))
    return sorted(_exchanged(squared[open_to], chosen, open_to, fixed))


def _agreeing(distances: Matrix, count: int) -> list[int]:
    """Those that agree with the middle one, where that is nearly all and at least `count`; else all. (m, m)."""
    middle = distances[int(distances.sum(1).argmin())]  # (m,)
    near = middle <= NEAR * middle.max()
    if near.mean() >= AGREED and near.sum() >= count:
        return [int(i) for i in near.nonzero()[0]]
    return list(range(len(distances)))


def _exchanged(squared: Matrix, chosen: Sequence[int], open_to: Sequence[int], fixed: Sequence[int]) -> list[int]:
    """The chosen ones, but for the fixed, each exchanged for another that is open as long as the sum falls.

    squared: distances, (points, all).
    """
    best = list(chosen)

    def loss(those: Sequence[int]) -> float:
        return float(squared[:, [*those, *fixed]].min(1).sum())

    lowest, falling = loss(best), True
    while falling:
        falling = False
        for place in range(len(best)):
            if best[place] in fixed:
                continue
            for other in open_to:
                if other in best:
                    continue
                tried = [*best[:place], other, *best[place + 1 :]]
                if (found := loss(tried)) < lowest * (1 - 1e-9):
                    best, lowest, falling = tried, found, True
    return best
