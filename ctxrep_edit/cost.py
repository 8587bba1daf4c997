"""What repulsion costs: plain and repelled sampling in turn, compared pair by pair."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ctxrep_edit.api import diverse_edit
from ctxrep_edit.imaging import ImageLike


@dataclass(frozen=True)
class Pair:
    """Sampling times in seconds of one plain and one repelled set from the same seed."""

    plain: float
    repelled: float

    @property
    def ratio(self) -> float:
        return self.repelled / self.plain


def pairs(image: ImageLike, instruction: str, n: int, count: int, **options: Any) -> Iterator[Pair]:
    """`count` pairs after one that is not counted; which of the two runs first alternates.

    options: as `diverse_edit` takes them; the check is off, as it is the same for both.
    """
    shared = {"preserve": "off", "progress": False, **options}
    repelled = shared.pop("strength", "auto")
    for i in range(count + 1):
        order = [("plain", 0.0), ("repelled", repelled)][:: -1 if i % 2 else 1]
        times = {
            name: diverse_edit(image, instruction, n, strength=strength, seed=i, **shared).seconds
            for name, strength in order
        }
        if i:
            yield Pair(**times)


def summary(measured: list[Pair]) -> dict[str, float]:
    """Medians over the pairs, the ratio's quartiles among them."""
    ratios = sorted(pair.ratio for pair in measured)
    low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    return {
        "plain": statistics.median(pair.plain for pair in measured),
        "repelled": statistics.median(pair.repelled for pair in measured),
        "ratio": middle,
        "ratio_low": low,
        "ratio_high": high,
    }
