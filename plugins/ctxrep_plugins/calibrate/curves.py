"""Curves for a page, as numbers that a template puts into SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 520, 260  # of the drawing, in its own units
LEFT, RIGHT, TOP, BOTTOM = 62, 10, 10, 30  # margins
COLOURS = ("#cf222e", "#0969da", "#1a7f37", "#9a6700", "#8250df", "#bf3989", "#57606a", "#1b7c83")
Point = tuple[float, float | None]


@dataclass(frozen=True)
class Curve:
    """Points (x, y) of one name, x > 0; those without a y are left out."""

    name: str
    points: Sequence[Point]


@dataclass(frozen=True)
class Line:
    """A curve as it is drawn."""

    name: str
    colour: str
    places: Sequence[tuple[float, float]]

    @property
    def path(self) -> str:
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in self.places)


@dataclass(frozen=True)
class Plot:
    """A drawing of `WIDTH` x `HEIGHT`: lines, marks along both axes as (place, number), the height of a level that all
    is compared with, and of a bound, if any."""

    title: str
    lines: Sequence[Line]
    across: Sequence[tuple[float, str]]
    up: Sequence[tuple[float, str]]
    level: float
    bound: float | None
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    bottom: int = HEIGHT - BOTTOM


def plot(title: str, curves: Sequence[Curve], level: float, bound: float | None = None) -> Plot:
    """x runs on a logarithmic axis."""
    known = [[(math.log(x), y) for x, y in curve.points if y is not None] for curve in curves]
    xs = sorted({x for points in known for x, _ in points})
    ys = [y for points in known for _, y in points] + [level] + ([] if bound is None else [bound])
    low, high = min(ys), max(ys)
    room = 0.08 * (high - low) or 0.1 * abs(high) or 1.0  # where all is one number too
    low, high = low - room, high + room
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def right(x: float) -> float:
        return LEFT + (width * (x - xs[0]) / (xs[-1] - xs[0]) if xs[-1] > xs[0] else width / 2)

    def down(y: float) -> float:
        return TOP + height * (high - y) / (high - low)

    inner = high - low - 2 * room
    marks = [low + room + i * inner / 4 for i in range(5 if inner > 0 else 1)]
    return Plot(
        title,
        [
            Line(curve.name, COLOURS[i % len(COLOURS)], [(right(x), down(y)) for x, y in points])
            for i, (curve, points) in enumerate(zip(curves, known, strict=True))
        ],
        [(right(x), f"{math.exp(x):.3g}") for x in xs],
        [(down(y), f"{y:.3g}") for y in marks],
        down(level),
        None if bound is None else down(bound),
    )
