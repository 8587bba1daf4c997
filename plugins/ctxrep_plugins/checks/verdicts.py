"""What the default checks have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ctxrep_edit import Evidence

FEWEST = 3  # edits of a set from which one can be told from the others


@dataclass(frozen=True)
class Measure:
    """One number of an edit against its bound. fault: what it means where it is beyond it, in plain words.
    at_least: whether the bound is the least, not the most."""

    value: float
    bound: float
    fault: str
    at_least: bool = False

    @property
    def kept(self) -> bool:
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def to_dict(self) -> dict[str, Any]:
        return {"value": self.value, "bound": self.bound, "kept": self.kept}


def incomparable(seen: Evidence) -> bool:
    """Whether edits cannot be compared with the others of their set: of the whole picture, with a mask, or too few."""
    return seen.where != "estimated" or len(seen.edits) < FEWEST


def where(seen: Evidence, i: int) -> dict[str, Any]:
    """The details that every check gives of edit i."""
    return {"region": seen.where, "region_share": float(seen.regions[i].float().mean())}
