"""The figures of `bench spread` as tables: one row per method."""

from __future__ import annotations

from collections.abc import Sequence

from ctxrep_plugins.bench.spread.results import Row
from rich.box import SIMPLE_HEAD
from rich.table import Column, Table

COLUMNS = {
    "distinct": "distinct right",
    "entropy": "entropy",
    "right": "share right",
    "held": "words held",
    "typical": "typical",
    "lpips_outside": "LPIPS outside",
    "psnr_outside": "PSNR outside",
    "vendi": "Vendi (AlexNet)",
    "counted": "edits.distinct",
    "seconds": "seconds",
    "time": "time / plain",
    "evaluations": "evaluations / plain",
}
SHOWN = ("distinct", "right", "held", "lpips_outside", "vendi", "time")  # in a terminal


def table(rows: Sequence[Row], pinned: bool) -> Table:
    """A table for the terminal, of the open or the pinned instructions. Where it is narrow names are folded, so that no
    number is cut in 80 columns."""
    kind = "pinned" if pinned else "open"
    columns = [Column(COLUMNS[name].replace(" ", "\n"), no_wrap=True) for name in SHOWN]
    title = f"{kind} instructions, {rows[0]['n']} edits each"
    out = Table(Column("method", overflow="fold"), *columns, title=title, title_justify="left", box=SIMPLE_HEAD)
    for row in rows:
        if "error" not in row:  # of the others a warning has told
            out.add_row(_title(row, rows), *_cells(row, kind, SHOWN, "\n"))
    return out


def as_markdown(rows: Sequence[Row]) -> str:
    """The same tables as Markdown, of all columns."""
    lines = []
    for kind in ("open", "pinned"):
        lines += [f"{kind.capitalize()} instructions, {rows[0]['n']} edits each:", ""]
        lines += [f"| method | {' | '.join(COLUMNS.values())} |", "|" + "---|" * (len(COLUMNS) + 1)]
        lines += [f"| {_title(row, rows)} | {' | '.join(_cells(row, kind, tuple(COLUMNS), ' '))} |" for row in rows]
        lines.append("")
    return "\n".join(lines)


def _title(row: Row, rows: Sequence[Row]) -> str:
    several = len({other["model"] for other in rows}) > 1
    return f"{row['model']} {row['method']}" if several else str(row["method"])


def _cells(row: Row, kind: str, names: Sequence[str], between: str) -> list[str]:
    if "error" in row:
        return [row["error"], *[""] * (len(names) - 1)]
    found = [row[kind][name] for name in names]
    return ["-" if c[0] is None else f"{c[0]:.3g}{between}[{c[1]:.3g},{between}{c[2]:.3g}]" for c in found]
