"""A check: whether an edit kept what it should."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ctxrep_edit import Case, Check, Verdict

if TYPE_CHECKING:
    import torch

EDGE = 0.02  # how near to black or white a pixel counts as burnt out
BOUND = 0.25  # share of the pixels that an edit may burn out beyond those of its source


class HelloCheck(Check):
    """An edit must not burn out: lose its pixels to black and white."""

    name = "hello-exposure"
    summary = "how much of the picture is burnt out that was not before"

    def verdicts(self, case: Case) -> Sequence[Verdict]:
        before = float(_burnt(case.source))
        verdicts = []
        for share in _burnt(case.edits):
            value = max(0.0, float(share) - before)
            kept = value <= BOUND
            reason = f"{value:.0%} of the picture is newly burnt out, {'within' if kept else 'over'} {BOUND:.0%}"
            verdicts.append(Verdict(kept, "share newly burnt out", value, BOUND, reason))
        return verdicts


def _burnt(pictures: torch.Tensor) -> torch.Tensor:
    """(n, 3, h, w) in [0, 1] to the share of its pixels that are black or white, (n,)."""
    dark, bright = (pictures <= EDGE).all(1), (pictures >= 1 - EDGE).all(1)  # (n, h, w)
    return (dark | bright).float().mean((1, 2))
