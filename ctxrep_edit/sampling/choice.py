"""Which candidates of a pool go on: those that stand for all that differ in it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence, Set

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Matrix = npt.NDArray[np.float64]

EXACT = "donot_use_mm_for_euclid_dist"  # which torch would else take of many points, and which loses small distances
ROUNDING = 1e-9  # of the sum; what is less is no fall
AGREED = 0.75  # share of the candidates; where so many agree, the words leave nothing open, and the others missed them
NEAR = 0.3  # of the largest distance from the middle one; what is nearer agrees with it
FEW = 6  # candidates; what fewer of them agree in says little of the words


def choose(points: Tensor, away: Tensor, first: Sequence[int], count: int, gone: Tensor | None = None) -> list[int]:
    """`count` of the points, (m, numbers), `first` among them: medoids, from which all points are as near as can be.

    away: (k, numbers), medoids that are there already; it or `first` is not empty. They are found farthest first and
    then exchanged as long as that brings the sum of squared distances down (k-medoids; Kaufman and Rousseeuw 1990).
    Farthest-first alone likes what lies far off for being broken; where nearly all agree, of the points, of those that
    are there already, and of those that were left out before, `gone`, it would take just that, so that there the others
    have no part in it. Returns their numbers, rising.
    """
    m, k = len(points), len(away)
    everyone = torch.cat([points, away, *([] if gone is None else [gone])]).double()
    distances: Matrix = torch.cdist(everyone, everyone, compute_mode=EXACT).numpy()
    squared, there = distances[:m, : m + k] ** 2, range(m, m + k)
    agreeing = [i for i in _agreeing(distances) if i < m]
    candidates = sorted({*first, *(agreeing if len(agreeing) >= count else range(m))})
    chosen = list(first)
    while len(chosen) < count:
        nearest = squared[:, [*chosen, *there]].min(1)  # (m,)
        chosen.append(max((i for i in candidates if i not in chosen), key=lambda i: nearest[i]))
    return sorted(_exchanged(squared[candidates], chosen, candidates, {*first, *there}))


def left_out(before: Tensor, staying: Sequence[int], now: Tensor) -> Tensor:
    """Where the points, (m, numbers), that did not stay would be now: as far as then from the nearest that did.

    now: (m, numbers), in which those alone are told that stayed.
    """
    out = [i for i in range(len(before)) if i not in staying]
    near = torch.tensor(staying)[torch.cdist(before[out], before[staying], compute_mode=EXACT).argmin(1)]
    return now[near] + before[out] - before[near]


def _agreeing(distances: Matrix) -> list[int]:
    """The points that agree with the middle one, where that is nearly all; else all. distances: (points, points)."""
    middle = distances[int(distances.sum(1).argmin())]  # (points,)
    near = middle <= NEAR * middle.max()
    agreed = len(near) >= FEW and near.mean() >= AGREED
    return [i for i, is_near in enumerate(near) if is_near or not agreed]


def _exchanged(squared: Matrix, chosen: Sequence[int], candidates: Sequence[int], fixed: Set[int]) -> list[int]:
    """The chosen ones, but for the fixed, each exchanged for another candidate as long as the sum falls.

    squared: distances of the candidates to all: (candidates, m + k).
    """
    best = list(chosen)

    def loss(medoids: Sequence[int]) -> float:
        return float(squared[:, [*medoids, *fixed]].min(1).sum())

    lowest, falling = loss(best), True
    while falling:
        falling = False
        for place, other in itertools.product(range(len(best)), candidates):
            if best[place] in fixed or other in best:
                continue
            tried = [*best[:place], other, *best[place + 1 :]]
            if (found := loss(tried)) < lowest * (1 - ROUNDING):
                best, lowest, falling = tried, found, True
    return best
