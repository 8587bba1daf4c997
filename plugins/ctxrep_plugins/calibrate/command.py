"""`ctxrep-edit calibrate`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import click

from ctxrep_edit import InputError, encode_json


@click.command()
@click.option("--model", help="Local pipeline folder, hub id, or embedded model; needed.")
@click.option(
    "--photos", type=click.Path(path_type=Path), help="Folder of photographs.  [default: six of scikit-image]"
)
@click.option(
    "--instructions", type=click.Path(path_type=Path), help="Text file, one a line.  [default: ten open ones]"
)
@click.option("--budget", type=click.FloatRange(0, min_open=True), default=60, show_default=True, help="Minutes.")
@click.option("--embedder", default="alexnet", show_default=True, help="In whose features spread is measured.")
@click.option("--following", "clip", help="CLIP or SigLIP for transformers, by hub id or folder: asks the check too.")
@click.option(
    "-n",
    "n",
    type=click.IntRange(2),
    default=4,
    show_default=True,
    help="Edits per set; strength means the same for any number.",
)
@click.option("--scope", "scopes", multiple=True, help="Try this scope; repeatable.  [default: all of the family's]")
@click.option("--oversample", type=click.IntRange(1), help="Candidates that start per edit.  [default: the family's]")
@click.option("--steps", type=click.IntRange(1), help="Of the sampler.  [default: the model's]")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the first set.")
@click.option("--device", help="Torch device, such as cuda or cpu.  [default: what torch finds]")
@click.option("--dtype", help="Such as bfloat16.  [default: float32 on a CPU, else bfloat16]")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="For state and report.  [default: calibration-MODEL]"
)
@click.option("--take", help="Keep this setting, scope:strength:window, whatever the rule says; nothing is measured.")
@click.option("--dry-run", is_flag=True, help="Measure and report, but keep no setting.")
@click.option("--force", is_flag=True, help="Replace settings that somebody wrote for the model, without asking.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def calibrate(
    model: str | None, out: Path | None, take: str | None, dry_run: bool, force: bool, as_json: bool,
    device: str | None, dtype: str | None, budget: float, **asked: Any,
) -> None:  # fmt: skip
    """Find settings of the repulsion on your own model.

    Plain and repelled sets from the same seeds, of your photographs and instructions, at several scopes, strengths and
    windows. Taken is the setting with the most spread whose losses stay inside plain sampling's interval; where none
    spreads more than plain sampling, none is. It is kept in the model's ctxrep.json, or among your settings, and is the
    default of diverse_edit from then on. What has been measured is in the folder -o: the same command goes on there.
    """
    from ctxrep_plugins.calibrate import keeping
    from ctxrep_plugins.calibrate.page import report
    from ctxrep_plugins.calibrate.running import Calibration

    from ctxrep_edit import load_pipeline

    if model is None:
        raise InputError("Settings belong to a model: name one by --model, a folder, a hub id or an embedded one.")
    if take and dry_run:
        raise InputError("--take keeps a setting and --dry-run keeps none: give one of them.")
    out = out or Path("calibration-" + re.sub(r"[^\w.-]+", "-", model.strip("/")))
    pipeline = load_pipeline(model, device=device, dtype=dtype)
    file = None if dry_run else keeping.place(pipeline)
    if file is not None and not force and (written := keeping.theirs(file)):
        _ask(file, written)
    run = Calibration(pipeline, model, out, **asked)
    by_hand = take is not None
    if take is None:
        run.measure(60 * budget)
    cell = run.found if take is None else run.named(take)
    page = report(run, cell, out / "report.html", by_hand)
    backup = None
    if file is not None and cell is not None:
        backup = keeping.keep(file, cell.settings, run.how(by_hand))
    if as_json:
        click.echo(
            encode_json({**run.to_dict(cell), "report": str(page), "kept": str(file) if file and cell else None}, None)
        )
        return
    click.echo(run.verdict(cell, by_hand))
    if file is not None and cell is not None:
        click.echo(f"Kept in {file}" + (f"; what it stated before is in {backup}." if backup else "."))
    click.echo(f"Report: {page}")


def _ask(file: Path, written: Any) -> None:
    said = ", ".join(f"{name} {value}" for name, value in written.items())
    if not sys.stdin.isatty():
        raise InputError(f"{file} states settings already ({said}): give --force to replace them, or --dry-run.")
    click.confirm(f"{file} states settings already ({said}). Replace them by what is found?", abort=True, err=True)
