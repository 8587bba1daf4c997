"""The figures of `bench spread` as a plot."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from ctxrep_plugins.bench.spread.results import Row

from ctxrep_edit import InputError

WIDTH = 0.15  # of the plot, in share right
TRUE = ("right", "distinct")  # what is drawn along x and y
BLIND = ("lpips_outside", "vendi")  # what can be drawn on anybody's model
NAMES = {
    "right": "share right",
    "distinct": "distinct right answers",
    "lpips_outside": "LPIPS outside the edit",
    "vendi": "Vendi score over AlexNet",
}
OURS = "crimson"
TABLEAU = ("blue", "orange", "green", "purple", "brown", "cyan", "olive", "pink")
OTHERS = ("black", *(f"tab:{colour}" for colour in TABLEAU), "teal", "gold")


def need_matplotlib() -> None:
    """Raises InputError where matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise InputError('--plot needs matplotlib, which is not installed: pip install "ctxrep-edit[bench]".') from None


def drawing(rows: Sequence[Row], form: str, x: str, y: str) -> bytes:
    """Figure y against figure x over the open instructions, with their intervals.

    One curve per method over its own strength, with a star for the method as it comes; a small square for a scope as it
    comes. Curves of methods that break the picture run out of the plot, which ends WIDTH away from the best share.
    """
    from matplotlib.figure import Figure

    models = list(dict.fromkeys(row["model"] for row in rows))
    figure = Figure(figsize=(8 * len(models), 6.5), layout="constrained")
    for axes, model in zip(figure.subplots(1, len(models), squeeze=False)[0], models, strict=True):
        axes.set_prop_cycle(color=OTHERS)
        mine = [row for row in rows if row["model"] == model and "error" not in row]
        mine = [row for row in mine if row[x] is not None and row[y] is not None]
        scopes = [row for row in mine if "/" in row["family"] and row["strength"] is None]
        others = [row for row in mine if row not in scopes]
        for family in dict.fromkeys(row["family"] for row in others):
            _curve(axes, family, [row for row in others if row["family"] == family], x, y)
        axes.scatter(*_points(scopes, x, y), marker="s", s=22, color="0.55", zorder=3)
        for row in scopes:
            place, name = (row[x], row[y]), row["family"].partition("/")[2]
            axes.annotate(name, place, xytext=(4, 4), textcoords="offset points", fontsize=7, color="0.45")
        axes.set(title=str(model), xlabel=NAMES[x], ylabel=f"{NAMES[y]}, {rows[0]['n']} edits")
        shares = [row["right"] for row in mine]
        if x == "right" and shares and min(shares) < max(shares) - WIDTH:
            axes.set_xlim(max(shares) - WIDTH, max(shares) + 0.01)
        axes.grid(alpha=0.3)
        if others:
            axes.legend(loc="best", fontsize="small")
    stream = io.BytesIO()
    figure.savefig(stream, format=form, dpi=110)
    return stream.getvalue()


def _curve(axes: Any, family: str, rows: Sequence[Row], x: str, y: str) -> None:
    style = {"color": OURS, "linewidth": 2.5} if family == "contextual" else {"linewidth": 1.2}
    curve = sorted((row for row in rows if row["strength"] is not None), key=lambda row: row["strength"])
    (line,) = axes.plot(*_points(curve, x, y), marker="o", markersize=4, label=family, **style)
    as_it_comes = [row for row in rows if row["strength"] is None]
    axes.scatter(*_points(as_it_comes, x, y), marker="*", s=220, color=line.get_color(), zorder=3)
    for row in rows:
        (right, *across), (up, *along) = row["open"][x], row["open"][y]
        axes.plot(across, [up, up], [right, right], along, color=line.get_color(), linewidth=0.7, alpha=0.35)


def _points(rows: Sequence[Row], x: str, y: str) -> tuple[list[float], list[float]]:
    return [row[x] for row in rows], [row[y] for row in rows]
