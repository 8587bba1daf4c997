"""The findings of `bench faithful` as numbers for JSON, and these as tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ctxrep_plugins.bench.faithful.measurement import SIZE, Findings
from rich.table import Table

Summary = dict[str, Any]


def summary(found: Findings) -> Summary:
    """What is told of the findings: shares, means and counts."""
    return {
        "flagged": [
            {
                "edits": kind, "what": what, "region": mask, "flagged": sum(said) / len(said), "n": len(said),
                "by": dict(Counter(found.by[kind, what, mask])),
            }
            for (kind, what, mask), said in found.flagged.items()
        ],
        "iou": {name: [sum(iou) / len(iou), min(iou), len(iou)] for name, iou in found.iou.items() if iou},
        "part_or_whole": sum(found.told_apart) / len(found.told_apart),
        "retried": {way: _before_and_after(sets) for way, sets in found.retried.items()},
    }  # fmt: skip


def flagged(stated: Summary) -> Table:
    table = Table("edits of", "what", "region", "flagged", "of", "by", title="Flagged", title_justify="left")
    for row in sorted(stated["flagged"], key=lambda row: (row["edits"], row["what"], row["region"])):
        by = ", ".join(f"{name} {times}" for name, times in Counter(row["by"]).most_common())
        table.add_row(f"a {row['edits']}", row["what"], row["region"], f"{row['flagged']:.3f}", str(row["n"]), by)
    return table


def regions(stated: Summary) -> Table:
    table = Table(
        "edit", "mean IoU", "worst", "of", title="Estimated region against the true one", title_justify="left"
    )
    for name, (mean, worst, count) in sorted(stated["iou"].items()):
        table.add_row(name, f"{mean:.3f}", f"{worst:.3f}", str(count))
    return table


def retried(stated: Summary) -> Table:
    table = Table(
        "asked", "right before", "right after", "distinct before", "distinct after", "sets",
        title="Repelled sets, their unfaithful edits made again", title_justify="left",
    )  # fmt: skip
    for way, said in stated["retried"].items():
        numbers = [f"{said[name]:.3f}" for name in ("right_before", "right_after", "distinct_before", "distinct_after")]
        table.add_row(way, *numbers, str(said["sets"]))
    return table


def _before_and_after(sets: Sequence[tuple[tuple[int, int], tuple[int, int]]]) -> dict[str, float]:
    """The share of right edits and the mean number of distinct right answers, before retrying and after."""
    means = [[sum(pair[when][what] for pair in sets) / len(sets) for what in (0, 1)] for when in (0, 1)]
    (before, distinct), (after, left) = means
    return {
        "right_before": before / SIZE, "right_after": after / SIZE, "distinct_before": distinct,
        "distinct_after": left, "sets": len(sets),
    }  # fmt: skip
