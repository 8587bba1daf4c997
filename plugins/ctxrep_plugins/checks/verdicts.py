"""What the verdicts of the default checks have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ctxrep_edit import Verdict

if TYPE_CHECKING:
    from ctxrep_edit import Evidence


def where(seen: Evidence, i: int) -> dict[str, Any]:
    """The details that every check gives of edit i."""
    return {"region": seen.where, "region_share": float(seen.regions[i].float().mean())}


def not_asked(seen: Evidence, measure: str, bound: float) -> list[Verdict]:
    """Verdicts of a check that such edits have nothing for."""
    whole = seen.where == "whole"
    reason = "an edit of the whole picture has no outside" if whole else "asked of edits of the whole picture"
    return [Verdict(True, measure, bound, bound, reason, where(seen, i)) for i in range(len(seen.edits))]
