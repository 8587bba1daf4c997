"""The columns of a manifest, and how a value of each is read: from text, as in CSV, or from what JSON has for it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Reader = Callable[[Any], Any]
"""Gives the value, or raises ValueError saying what it must be."""


@dataclass(frozen=True)
class Whole:
    """A whole number from `low`; 3.0 too, as tables with gaps have it."""

    low: int

    def __call__(self, value: Any) -> int:
        if isinstance(value, str) and (found := re.fullmatch(r"(-?\d{1,20})(\.0+)?", value.strip(), re.ASCII)):
            value = int(found[1])
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or value < self.low:
            raise ValueError(f"a whole number, at least {self.low}")
        return value


@dataclass(frozen=True)
class Number:
    """A number from `low` to `high`. words: what may stand in its place."""

    low: float = -math.inf
    high: float = math.inf
    words: tuple[str, ...] = ()

    def __call__(self, value: Any) -> float | str:
        if value in self.words:
            return str(value)
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not (math.isfinite(number) and self.low <= number <= self.high):
            bounds = f", {self.low:g} or more" if math.isfinite(self.low) else ""
            bounds = f", {self.low:g} to {self.high:g}" if math.isfinite(self.high) else bounds
            raise ValueError(f"a number{bounds}" + "".join(f", or {word}" for word in self.words))
        return number


@dataclass(frozen=True)
class Word:
    """One of a few words."""

    words: tuple[str, ...]

    def __call__(self, value: Any) -> str:
        if value not in self.words:
            raise ValueError(f"one of {', '.join(self.words)}")
        return str(value)


def text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError("text")
    return value


def flag(value: Any) -> bool:
    found = {"true": True, "false": False}.get(value.strip().lower()) if isinstance(value, str) else value
    if not isinstance(found, bool):
        raise ValueError("true or false")
    return found


def checks(value: Any) -> str | list[str]:
    """auto, off, or names of installed checks: a list, or text with blanks between them."""
    from ctxrep_edit import CHECKS

    if value in ("auto", "off"):
        return str(value)
    names = value.split() if isinstance(value, str) else value
    known = sorted(CHECKS.all())
    if not isinstance(names, Sequence) or not names or not all(name in known for name in names):
        raise ValueError(f"auto, off, or names of checks: {' '.join(known)}")
    return list(names)


def values(value: Any) -> list[str]:
    """Of one attribute: a list, or text with commas between them."""
    found = value.split(",") if isinstance(value, str) else value
    if not isinstance(found, Sequence):
        raise ValueError("values such as red,blue,green")
    return [text(one) for one in found]


def strategy(value: Any) -> str:
    from ctxrep_edit import STRATEGIES

    return Word(tuple(sorted(STRATEGIES.all())))(value)


def name(value: Any) -> str:
    """Of a folder, on any system."""
    value = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}(?<!\.)", value, re.ASCII):
        raise ValueError("up to 100 of A-Z, a-z, 0-9, '.', '_' and '-', with no '.' or '-' first and no '.' last")
    if value.lower().startswith("results."):
        raise ValueError("another name than that of the results")
    return value


ID, PICTURES, NEEDED = "id", ("image", "mask"), ("image", "instruction")
COLUMNS: dict[str, Reader] = {
    ID: name,
    "image": text,
    "instruction": text,
    "mask": text,
    "n": Whole(1),
    "seed": Whole(0),
    "strength": Number(0, words=("auto",)),
    "scope": text,
    "window": Number(0.01, 1),
    "strategy": strategy,
    "oversample": Whole(1),
    "batch_size": Whole(1),
    "steps": Whole(1),
    "guidance_scale": Number(),
    "true_cfg_scale": Number(),
    "negative_prompt": text,
    "denoising_strength": Number(0, 1),
    "width": Whole(1),
    "height": Whole(1),
    "preserve": checks,
    "on_unfaithful": Word(("flag", "drop", "retry")),
    "distinct": Word(("count", "retry")),
    "vary": values,
    "retries": Whole(1),
    "restore": flag,
    "realign": flag,
}
"""Those that there are; all but the first four are arguments of `diverse_edit`."""
