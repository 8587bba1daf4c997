"""One set of edits, measured without knowing what is right."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ctxrep_edit import DEFAULT_CHECKS, Check, EditSet, Repulsion, diverse_edit

if TYPE_CHECKING:
    from ctxrep_plugins.calibrate.tasks import Task


@dataclass(frozen=True)
class Measured:
    """One set.

    spread: Vendi score of the edits to which no check objects, 0 where it objects to all. different: how many of them
    differ, by `edits.distinct`. failed: share of edits to which a check objects. lpips: mean of what `preservation`
    measures, where it measures what an edit loses outside its region; None for edits of the whole picture. following:
    mean directional similarity, where a model was named for it. seconds: of sampling.
    """

    spread: float
    different: int
    failed: float
    lpips: float | None
    following: float | None
    seconds: float


def made(
    pipeline: Any, task: Task, repulsion: Repulsion | None, n: int, steps: int | None, checks: Sequence[str | Check]
) -> EditSet:
    """n edits of a task; without a repulsion plain ones, from the same seeds."""
    return diverse_edit(
        task.image, task.instruction, n, pipeline=pipeline, repulsion=repulsion,
        strength=0.0 if repulsion is None else "auto", seed=task.seed, steps=steps, preserve=checks, bank="off",
        progress=False,
    )  # fmt: skip


def measured(edits: EditSet, embedder: str) -> Measured:
    """What can be said of a set whose edits were asked `DEFAULT_CHECKS`, and perhaps `following`."""
    from ctxrep_plugins.checks.preservation import LOSS

    objected = [any(edit.verdicts[name].objects for name in DEFAULT_CHECKS) for edit in edits]
    kept = replace(edits, edits=tuple(edit for edit, wrong in zip(edits, objected, strict=True) if not wrong))
    outside = [edit.verdicts["preservation"] for edit in edits]
    lost = [verdict.value for verdict in outside if verdict.measure == LOSS and verdict.value is not None]
    followed = [edit.verdicts["following"].value for edit in edits if "following" in edit.verdicts]
    return Measured(
        spread=kept.vendi_in(embedder) if len(kept) else 0.0,
        different=kept.distinct if len(kept) else 0,
        failed=sum(objected) / len(objected),
        lpips=statistics.fmean(lost) if lost else None,
        following=statistics.fmean(value for value in followed if value is not None) if followed else None,
        seconds=edits.seconds,
    )
