"""The figures of `bench spread`: kept while it runs, summed up, written and drawn."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from ctxrep_plugins.bench.spread import PLAIN, Method, Task, Trial, summary

from ctxrep_edit import CtxrepError, InputError, OutputError

VERSION = 3  # of the trials file
COLUMNS = {
    "distinct": "distinct right",
    "entropy": "entropy",
    "right": "share right",
    "held": "words held",
    "typical": "typical",
    "lpips_outside": "LPIPS outside",
    "psnr_outside": "PSNR outside",
    "vendi": "Vendi (AlexNet)",
    "seconds": "seconds",
    "time": "time / plain",
    "evaluations": "evaluations / plain",
}
SHOWN = ("distinct", "right", "held", "lpips_outside", "vendi", "time")  # in a terminal
WIDTH = 0.15  # of the plot, in share right
OURS = "crimson"
OTHERS = ("black", *(f"tab:{c}" for c in ("blue", "orange", "green", "purple", "brown", "cyan", "olive", "pink")))
Row = dict[str, Any]


class Results:
    """The trials of one model. With a file, each is written as it comes, and what the file holds is not done again."""

    def __init__(self, file: Path | None, **settings: Any) -> None:
        self.settings = {"version": VERSION, **settings}
        self.trials: dict[str, dict[tuple[int, str, bool], Trial]] = {}
        self.failures: dict[str, str] = {}
        self._file = (
            None if file is None else file.with_name(f"{file.stem}-{Path(settings['model']).name}{file.suffix}")
        )
        self._stream: TextIO | None = None

    def __enter__(self) -> Results:
        if self._file is None:
            return self
        try:
            text = self._file.read_text("utf-8") if self._file.exists() else ""
            self._read(text.splitlines())
            self._stream = self._file.open("a", encoding="utf-8")
            if not text:
                self._write(self.settings)
            elif not text.endswith("\n"):  # ends what was cut off
                self._stream.write("\n")
        except OSError as error:
            raise OutputError(f"{self._file} cannot be used: {error.strerror}. Name another --trials file.") from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()

    def _read(self, lines: Sequence[str]) -> None:
        if not lines:
            return
        try:
            head, *rest = [json.loads(line) for line in lines if line.endswith("}")]  # others were cut off
            if head != self.settings:
                was, now = (dict(a.items() - b.items()) for a, b in ((head, self.settings), (self.settings, head)))
                raise InputError(
                    f"{self._file} was written with {was}, this run has {now}: name another --trials file, or delete "
                    "this one."
                )
            for entry in rest:
                trial = Trial(**{k: math.nan if v is None else v for k, v in entry.items()})
                self.trials.setdefault(trial.method, {})[trial.key] = trial
        except (ValueError, TypeError) as error:
            if isinstance(error, CtxrepError):
                raise
            raise InputError(f"{self._file} is no file of trials: name another --trials file.") from error

    def _write(self, entry: dict[str, Any]) -> None:
        if self._stream is not None:
            finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in entry.items()}
            self._stream.write(json.dumps(finite) + "\n")
            self._stream.flush()

    def has(self, task: Task, how: Method) -> bool:
        return task.key in self.trials.get(how.label, {})

    def add(self, how: Method, trial: Trial) -> None:
        self.trials.setdefault(how.label, {})[trial.key] = trial
        self._write(asdict(trial))

    def fail(self, how: Method, cause: str) -> None:
        self.failures[how.label] = cause

    def rows(self, methods: Sequence[Method], photos: int) -> list[Row]:
        """One row per method: means over the open instructions, with both kinds and their intervals beside them."""
        return [self._row(how, photos) for how in methods]

    def _row(self, how: Method, photos: int) -> Row:
        row: Row = {"method": how.label, "family": how.name, "strength": how.strength, "model": self.settings["model"]}
        row["n"] = self.settings["n"]
        if how.label in self.failures:
            return {**row, "error": self.failures[how.label]}
        mine = [trial for trial in self.trials.get(how.label, {}).values() if trial.photo < photos]
        for kind in ("open", "pinned"):
            those = [trial for trial in mine if trial.pinned == (kind == "pinned")]
            figures = summary(those, self.trials.get(PLAIN.label, {}), self.settings["seed"])
            row[kind] = {k: [round(x, 5) if math.isfinite(x) else None for x in v] for k, v in figures.items()}
        return {**row, **{k: row["open"][k][0] for k in COLUMNS}}


def table(rows: Sequence[Row], pinned: bool) -> Any:
    """A table for the terminal, of the open or the pinned instructions."""
    from rich.table import Table

    kind = "pinned" if pinned else "open"
    out = Table("method", *(COLUMNS[name] for name in SHOWN), title=f"{kind} instructions, {rows[0]['n']} edits each")
    out.title_justify = "left"
    for row in rows:
        out.add_row(_title(row, rows), *_cells(row, kind, SHOWN, "\n"))
    return out


def write_markdown(file: Path, rows: Sequence[Row]) -> None:
    """The same tables as Markdown."""
    lines = []
    for kind in ("open", "pinned"):
        lines += [f"{kind.capitalize()} instructions, {rows[0]['n']} edits each:", ""]
        lines += [f"| method | {' | '.join(COLUMNS.values())} |", "|" + "---|" * (len(COLUMNS) + 1)]
        lines += [f"| {_title(row, rows)} | {' | '.join(_cells(row, kind, tuple(COLUMNS), ' '))} |" for row in rows]
        lines.append("")
    _save(file, "\n".join(lines).encode())


def write_json(file: Path, rows: Sequence[Row]) -> None:
    _save(file, (json.dumps(rows, indent=2) + "\n").encode())


def _title(row: Row, rows: Sequence[Row]) -> str:
    several = len({other["model"] for other in rows}) > 1
    return f"{row['model']} {row['method']}" if several else str(row["method"])


def _cells(row: Row, kind: str, names: Sequence[str], between: str) -> list[str]:
    if "error" in row:
        return [row["error"], *[""] * (len(names) - 1)]
    found = [row[kind][name] for name in names]
    return ["-" if c[0] is None else f"{c[0]:.3g}{between}[{c[1]:.3g}, {c[2]:.3g}]" for c in found]


def need_matplotlib() -> None:
    """Raises InputError where matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise InputError('--plot needs matplotlib, which is not installed: pip install "ctxrep-edit[bench]".') from None


def draw(file: Path, rows: Sequence[Row]) -> None:
    """Distinct right answers against share right over the open instructions, with their intervals.

    One curve per method over its own strength, with a star for the method as it comes; a small square for a scope as it
    comes. Curves of methods that break the picture run out of the plot, which ends WIDTH below the best share.
    """
    import io

    from matplotlib.figure import Figure

    models = list(dict.fromkeys(row["model"] for row in rows))
    figure = Figure(figsize=(8 * len(models), 6.5), layout="constrained")
    for axes, model in zip(figure.subplots(1, len(models), squeeze=False)[0], models, strict=True):
        axes.set_prop_cycle(color=OTHERS)
        mine = [row for row in rows if row["model"] == model and "error" not in row]
        scopes = [row for row in mine if "/" in row["family"] and row["strength"] is None]
        others = [row for row in mine if row not in scopes]
        for family in dict.fromkeys(row["family"] for row in others):
            _curve(axes, family, [row for row in others if row["family"] == family])
        axes.scatter(*_points(scopes), marker="s", s=22, color="0.55", zorder=3)
        for row in scopes:
            place, name = (row["right"], row["distinct"]), row["family"].partition("/")[2]
            axes.annotate(name, place, xytext=(4, 4), textcoords="offset points", fontsize=7, color="0.45")
        axes.set(title=str(model), xlabel="share right", ylabel=f"distinct right answers of {rows[0]['n']}")
        shares = [row["right"] for row in mine]
        if shares and min(shares) < max(shares) - WIDTH:
            axes.set_xlim(max(shares) - WIDTH, max(shares) + 0.01)
        axes.grid(alpha=0.3)
        if others:
            axes.legend(loc="best", fontsize="small")
    stream = io.BytesIO()
    figure.savefig(stream, format=file.suffix.lstrip(".") or "png", dpi=110)
    _save(file, stream.getvalue())


def _curve(axes: Any, family: str, rows: Sequence[Row]) -> None:
    style = {"color": OURS, "linewidth": 2.5} if family == "contextual" else {"linewidth": 1.2}
    curve = sorted((row for row in rows if row["strength"] is not None), key=lambda row: row["strength"])
    (line,) = axes.plot(*_points(curve), marker="o", markersize=4, label=family, **style)
    as_it_comes = [row for row in rows if row["strength"] is None]
    axes.scatter(*_points(as_it_comes), marker="*", s=220, color=line.get_color(), zorder=3)
    for row in rows:
        (x, *x_ends), (y, *y_ends) = row["open"]["right"], row["open"]["distinct"]
        axes.plot(x_ends, [y, y], [x, x], y_ends, color=line.get_color(), linewidth=0.7, alpha=0.35)


def _points(rows: Sequence[Row]) -> tuple[list[float], list[float]]:
    return [row["right"] for row in rows], [row["distinct"] for row in rows]


def _save(file: Path, content: bytes) -> None:
    try:
        part = file.with_name(file.name + ".part")
        part.write_bytes(content)
        part.replace(file)
    except OSError as error:
        raise OutputError(f"{file} cannot be written: {error.strerror}. Name another file.") from error
