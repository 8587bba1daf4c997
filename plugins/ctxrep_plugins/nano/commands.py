"""`ctxrep-edit bench spread`."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ctxrep_edit.errors import InputError, OutputError

METHODS = ("plain", "contextual")
COLUMNS = {
    "distinct": "distinct right",
    "right": "share right",
    "held": "words held",
    "lpips_outside": "LPIPS outside",
    "vendi": "Vendi",
    "seconds": "seconds",
}


@click.command()
@click.option("--photos", type=click.IntRange(1), default=10, show_default=True, help="How many crops.")
@click.option("-n", "n", type=click.IntRange(2), default=6, show_default=True, help="Edits per set.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of crops, wordings and noise.")
@click.option("--model", default="kontext-nano", show_default=True, help="Embedded model, or a folder of its kind.")
@click.option("--folder", type=click.Path(path_type=Path), help="Your own photographs instead of scikit-image's.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Also write the rows to this file.")
@click.option("--strength", type=float, help="Of the repulsion.  [default: the model's]")
@click.option("--scope", help="Which tokens repel.  [default: the model's]")
@click.option("--tau", "steps", type=click.IntRange(1), help="First timesteps that repel.  [default: the model's]")
def spread(
    photos: int, n: int, seed: int, model: str, folder: Path | None, file: Path | None, **changes: Any
) -> None:  # fmt: skip
    """Count distinct right answers, plain against repelled, on photographs whose right answers are known.

    Each crop is edited with an open and a pinned wording of every edit ("add a sticker", "add a cat sticker"), both
    methods from the same seeds. Intervals are 95 %, by bootstrap over crops.
    """
    from ctxrep_plugins.nano import photos as photographs
    from ctxrep_plugins.nano import spread as measure
    from rich.console import Console
    from rich.progress import track

    from ctxrep_edit.models import default_settings, load_pipeline

    pictures = photographs.read_folder(folder) if folder else photographs.held_out()
    if not pictures:
        raise InputError(f"{folder} holds no photograph of at least 320 pixels a side: name another --folder.")
    pipeline = load_pipeline(model)
    if changes["strength"] is not None:
        changes["eta"] = None
    ours = replace(default_settings(pipeline), **{k: v for k, v in changes.items() if k == "eta" or v is not None})
    work = list(measure.tasks(pictures, photos, seed))
    trials: dict[str, list[measure.Trial]] = {method: [] for method in METHODS}
    for task in track(work, "measuring", console=Console(stderr=True), disable=not Console(stderr=True).is_terminal):
        for method, settings in zip(METHODS, (replace(ours, strength=0.0, eta=None), ours), strict=True):
            trials[method] += measure.run(pipeline, [task], settings, n)
    rows = [_row(method, model, n, trials[method], seed) for method in METHODS]
    if file is not None:
        _write(file, rows)
    for pinned in (False, True):
        Console().print(_table(rows, pinned))


def _row(method: str, model: str, n: int, trials: Sequence[Any], seed: int) -> dict[str, Any]:
    """One method's figures over the open instructions, with the pinned ones and all intervals beside them."""
    from ctxrep_plugins.nano.spread import summary

    parts = {kind: summary([t for t in trials if t.pinned == (kind == "pinned")], seed) for kind in ("open", "pinned")}
    tidy = {kind: {k: [_finite(x) for x in v] for k, v in part.items()} for kind, part in parts.items()}
    keys = ("distinct", "right", "lpips_outside", "vendi", "seconds")
    return {"method": method, "model": model, "n": n, **{k: tidy["open"][k][0] for k in keys}, **tidy}


def _finite(value: float) -> float | None:
    return round(value, 5) if math.isfinite(value) else None


def _write(file: Path, rows: list[dict[str, Any]]) -> None:
    try:
        part = file.with_name(file.name + ".part")
        part.write_text(json.dumps(rows, indent=2) + "\n", "utf-8")
        part.replace(file)
    except OSError as error:
        raise OutputError(f"{file} cannot be written: {error.strerror}. Name another --json file.") from error


def _table(rows: list[dict[str, Any]], pinned: bool) -> Any:
    from rich.table import Table

    kind = "pinned" if pinned else "open"
    table = Table(
        "method", *COLUMNS.values(), title=f"{kind} instructions, {rows[0]['n']} edits each", title_justify="left"
    )
    for row in rows:
        cells = [row[kind][name] for name in COLUMNS]
        table.add_row(row["method"], *("-" if c[0] is None else f"{c[0]:.3f} [{c[1]:.3f}, {c[2]:.3f}]" for c in cells))
    return table
