"""The settings that are tried: scope x strength x window, around what the family takes by default."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ctxrep_edit import InputError, Repulsion, adapter_for, default_settings

STRENGTHS = (1.0, 0.5, 2.0)  # times the family's, in the first round
FINER = 2**0.5  # factor in strength, or in window, between a setting and those that are tried next to it


@dataclass(frozen=True)
class Cell:
    """One setting."""

    scope: str
    strength: float
    window: float
    oversample: int = 1

    @property
    def label(self) -> str:
        """As --take is given it."""
        return f"{self.scope}:{self.strength:.3g}:{self.window:.3g}"

    @property
    def settings(self) -> dict[str, Any]:
        """What a model's `ctxrep.json` states of it."""
        return {
            "scope": self.scope, "strength": self.strength, "window": self.window, "oversample": self.oversample,
        }  # fmt: skip

    @property
    def repulsion(self) -> Repulsion:
        return Repulsion(**self.settings)


def first(pipeline: Any, scopes: Sequence[str] = (), oversample: int | None = None) -> list[Cell]:
    """Every scope at each of `STRENGTHS`, what the family would take first, so that a small budget has that too.

    scopes: only these. oversample: None is the family's. Raises InputError for a scope that there is not.
    """
    adapter = adapter_for(pipeline)
    default = adapter.default
    for name in scopes:
        adapter.scope(name)
    strength, window = default.strength or 1.0, default.window or 0.1
    times = oversample or default.oversample or 1
    names = sorted(scopes or adapter.scopes, key=lambda name: name != default.scope)
    return [Cell(name, _rounded(strength * factor), _rounded(window), times) for factor in STRENGTHS for name in names]


def beyond(cell: Cell, loses: bool) -> list[Cell]:
    """What to try next to a setting: where it loses more than it may, weaker ones and a narrower window; else stronger
    ones and a wider window."""
    way = -1 if loses else 1
    strengths = [_rounded(cell.strength * FINER ** (way * k)) for k in (1, 2, 3)]
    window = _rounded(min(1.0, cell.window * FINER**way))
    found = [Cell(cell.scope, strength, cell.window, cell.oversample) for strength in strengths]
    return [*found, *([Cell(cell.scope, cell.strength, window, cell.oversample)] if window != cell.window else [])]


def named(text: str, oversample: int) -> Cell:
    """From its label. Raises InputError."""
    scope, *numbers = text.split(":")
    try:
        strength, window = map(float, numbers)
    except ValueError:
        raise InputError(
            f"There is no setting {text!r}: write scope:strength:window, such as middle:1.5:0.1."
        ) from None
    return Cell(scope, strength, window, oversample)


def in_force(pipeline: Any) -> dict[str, Any]:
    """The settings in force, for the report."""
    settings = default_settings(pipeline)
    return {name: getattr(settings, name) for name in ("scope", "strength", "window", "oversample")}


def _rounded(value: float) -> float:
    """To three digits, so that a label says all of it."""
    return float(f"{value:.3g}")
