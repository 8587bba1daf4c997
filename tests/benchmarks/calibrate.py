"""Whether settings that `ctxrep-edit calibrate` finds blindly are good where the truth is known.

    python tests/benchmarks/calibrate.py find kontext-nano --photos FOLDER --out OUT   # repeat until done
    python tests/benchmarks/calibrate.py score kontext-nano --out OUT   # on test photographs

`find` calibrates on photographs of the folder and writes what the judge would have said into a file of its own, which
the rule never sees: `truth` prints it beside what the rule saw. `score` has the judge count right answers of the found
setting and of plain sampling on crops of the photographs that neither training nor tuning has seen. Of qwen-nano the
outer levels of the autoencoder are left out.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np
from ctxrep_plugins.bench.spread.methods import PLAIN, Method
from ctxrep_plugins.bench.spread.trials import run
from ctxrep_plugins.bench.tasks import sizes_of, tasks
from ctxrep_plugins.calibrate import running
from ctxrep_plugins.calibrate.design import Cell
from ctxrep_plugins.calibrate.page import report
from ctxrep_plugins.calibrate.state import PLAIN as PLAIN_LABEL
from ctxrep_plugins.nano.world.photos import held_out

from ctxrep_edit import CHECKS, EditSet, load_pipeline

sys.path.insert(0, str(Path(__file__).parents[1]))

from megapixel import figures, quick

N = 6  # edits of a scored set


class Known(running.Calibration):
    """A calibration that notes the judge's word, and goes by it in nothing."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.checks.append(CHECKS.get("right-answer"))

    def edits(self, cell: Cell | None, task: Any) -> EditSet:
        made = super().edits(cell, task)
        rulings = [edit.verdicts["right-answer"] for edit in made]
        answers = [tuple(one.details["answer"]) for one in rulings if one.kept]
        label = PLAIN_LABEL if cell is None else cell.label
        row = {
            "label": label, "task": task.number, "distinct": len({*answers}), "right": len(answers) / len(rulings),
        }  # fmt: skip
        with (self.state.folder / "truth.jsonl").open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        return made


def loaded(model: str) -> Any:
    pipeline = load_pipeline(model)
    return quick(pipeline) if model == "qwen-nano" else pipeline


@click.group()
def cli() -> None:
    """See the head of this file."""


@cli.command()
@click.argument("model")
@click.option("--photos", type=click.Path(path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--budget", type=float, default=11.0)
@click.option("-n", "n", type=int, default=4)
@click.option("--oversample", type=int, default=1)
@click.option("--steps", type=int, default=6)
@click.option("--scope", "scopes", multiple=True)
def find(model: str, photos: Path, out: Path, budget: float, **asked: Any) -> None:
    """Calibrate, and keep nothing."""
    found = Known(loaded(model), model, out / model, photos=photos, **asked)
    found.measure(60 * budget)
    cell = found.found
    report(found, cell, out / model / "report.html")
    (out / f"{model}.json").write_text(json.dumps(found.to_dict(cell), indent=1))
    click.echo(found.verdict(cell))


@cli.command()
@click.argument("model")
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--crops", type=int, default=12)
@click.option("--seed", type=int, default=0)
def score(model: str, out: Path, crops: int, seed: int) -> None:
    """The judge on test photographs; goes on where it was stopped."""
    setting = json.loads((out / f"{model}.json").read_text())["found"]
    if setting is None:
        raise SystemExit("no setting helps")
    cell, pipeline, file = Cell(**setting), loaded(model), out / f"{model}-score.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    done = {(row["method"], row["photo"], row["edit"]) for row in rows}
    methods = {"plain": PLAIN, cell.label: Method("contextual", None, cell.repulsion)}
    with file.open("a") as stream:
        for task in tasks(held_out(), crops, seed, sizes=sizes_of(pipeline)):
            for name, method in methods.items():
                if task.request.pins or (name, task.photo, task.request.edit.name) in done:
                    continue
                quickly = model == "qwen-nano"
                made = figures(pipeline, task, method) if quickly else asdict(run(pipeline, task, method, N))
                row = {**made, "method": name}
                rows.append(row)
                stream.write(json.dumps(row) + "\n")
                stream.flush()
    _print(rows, cell.label, crops)


def _print(rows: list[dict[str, Any]], label: str, crops: int) -> None:
    """Means, and the ratios with 95 % intervals by a bootstrap over crops."""
    draws = np.random.default_rng(0).integers(crops, size=(2000, crops))
    means = {
        (name, figure): np.array(
            [
                np.mean([row[figure] for row in rows if row["method"] == name and row["photo"] == crop])
                for crop in range(crops)
            ]
        )
        for name in ("plain", label)
        for figure in ("distinct", "right")
    }
    for figure in ("distinct", "right"):
        plain, found = means["plain", figure], means[label, figure]
        low, high = np.percentile(found[draws].mean(1) / plain[draws].mean(1), [2.5, 97.5])
        click.echo(
            f"{figure}: plain {plain.mean():.3f}, {label} {found.mean():.3f}, "
            f"ratio {found.mean() / plain.mean():.3f} [{low:.3f}, {high:.3f}], {crops} crops"
        )


if __name__ == "__main__":
    cli()
