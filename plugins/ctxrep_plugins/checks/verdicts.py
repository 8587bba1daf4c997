"""What the verdicts of the default checks have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ctxrep_edit import Evidence


NO_OUTSIDE = "an edit of the whole picture has no outside"
NOTHING_OUTSIDE = "nothing of the picture lies outside the edit"
NOT_WHOLE = "this is an edit of a part of the picture"
FEWEST = 3  # edits of a set from which one can be told from the others


def incomparable(seen: Evidence) -> str | None:
    """Why edits of a part of the picture cannot be compared with the others of their set; None: they can."""
    if seen.where == "whole":
        return "this is an edit of the whole picture"
    if seen.where == "mask":
        return "a mask says where the edit was allowed"
    return None if len(seen.edits) >= FEWEST else f"it compares at least {FEWEST} edits"


def where(seen: Evidence, i: int) -> dict[str, Any]:
    """The details that every check gives of edit i."""
    return {"region": seen.where, "region_share": float(seen.regions[i].float().mean())}
