"""Trials summed up: the mean of each figure, and how sure it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from ctxrep_plugins.bench.spread.trials import Trial, mean

FIGURES = (
    "distinct",
    "entropy",
    "right",
    "held",
    "typical",
    "lpips_outside",
    "psnr_outside",
    "vendi",
    "counted",
    "seconds",
)
COSTS = {"time": "seconds", "evaluations": "evaluations"}  # relative to plain sampling of the same task


def summary(
    trials: Sequence[Trial], plain: Mapping[tuple[int, str, bool], Trial], seed: int = 0
) -> dict[str, tuple[float, float, float]]:
    """Mean and 95 % interval of each figure, by bootstrap over photographs.

    Costs are the sum over a photograph divided by that of its plain trials; nan where those were not made.
    """
    rng = np.random.default_rng(seed)
    by_photo = [[t for t in trials if t.photo == p] for p in sorted({t.photo for t in trials})]
    draws = rng.integers(len(by_photo), size=(1000, len(by_photo)))
    columns = {name: [mean([getattr(t, name) for t in group]) for group in by_photo] for name in FIGURES}
    columns |= {name: [_cost(group, plain, of) for group in by_photo] for name, of in COSTS.items()}
    out = {}
    for name, column in columns.items():
        values = np.array(column)
        means = np.array([mean(values[draw]) for draw in draws])
        low, high = np.nanpercentile(means, [2.5, 97.5]) if np.isfinite(means).any() else (np.nan, np.nan)
        out[name] = (mean(values), float(low), float(high))
    return out


def _cost(trials: Sequence[Trial], plain: Mapping[tuple[int, str, bool], Trial], of: str) -> float:
    pairs = [(getattr(t, of), getattr(plain[t.key], of)) for t in trials if t.key in plain]
    return sum(a for a, _ in pairs) / sum(b for _, b in pairs) if pairs else float("nan")


def agreement(truth: Sequence[int], counted: Sequence[int]) -> str:
    """How far counted numbers of different edits agree with the true ones, in one sentence."""
    from scipy.stats import spearmanr

    errors = np.subtract(counted, truth)
    ranks = float(spearmanr(truth, counted).statistic) if len({*truth}) > 1 < len({*counted}) else float("nan")
    return (
        f"edits.distinct against the truth, {len(truth)} sets: rank correlation {ranks:.2f}, off by "
        f"{np.abs(errors).mean():.2f} ({errors.mean():+.2f} in the mean), exact in {np.mean(errors == 0):.2f}"
    )
