"""The command that edits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ctxrep_edit.errors import InputError, OutputError

if TYPE_CHECKING:
    from ctxrep_edit.plugins.contracts import Exporter
    from ctxrep_edit.results.editset import EditSet


@click.command()
@click.argument("image", type=click.Path(path_type=Path))
@click.argument("instruction")
@click.option("-n", "n", type=int, default=6, show_default=True, help="How many edits.")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    default=Path("out"),
    show_default=True,
    help="Folder for the results.",
)
@click.option("--model", help="Embedded model, local pipeline folder, or hub id.  [default: kontext-nano]")
@click.option(
    "--strength", default="auto", show_default=True, help="Of the repulsion, without units; 0 is plain sampling."
)
@click.option(
    "--strategy",
    default="contextual",
    show_default=True,
    help="What moves them apart; see ctxrep-edit plugins.",
)
@click.option("--scope", help="Which tokens repel; 'ctxrep-edit models' lists the scopes.")
@click.option("--seed", type=int, help="Of the first edit; the others follow.  [default: random]")
@click.option("--steps", type=int, help="Of the sampler.  [default: the model's]")
@click.option("--mask", type=click.Path(path_type=Path), help="Where the edit is allowed: white, or transparent.")
@click.option("--device", help="Torch device, such as cuda or cpu.  [default: what torch finds]")
@click.option("--dtype", help="float32, bfloat16 or float16.  [default: float32 on a CPU, else bfloat16]")
@click.option("--check", "checks", multiple=True, help="A check to ask; may be repeated.  [default: see docs]")
@click.option("--no-check", is_flag=True, help="Ask no check and measure nothing: needs no LPIPS weights.")
@click.option("--realign", is_flag=True, help="Move edits back that came back shifted or zoomed.")
@click.option("--restore", is_flag=True, help="Put the source's own pixels back outside the edit, at its size.")
@click.option(
    "--on-unfaithful", type=click.Choice(["flag", "drop", "raise", "retry"]), default="flag", show_default=True,
    help="What becomes of edits that fail a check.",
)  # fmt: skip
@click.option("--retries", type=int, default=2, show_default=True, help="Rounds of --on-unfaithful retry.")
@click.option("--export", "exporters", multiple=True, help="Write this form too, beside png, sheet, json; repeatable.")
@click.option("--keep-credits", is_flag=True, help="Write artist and copyright of IMAGE's EXIF into the edits.")
@click.option("--compare", is_flag=True, help="Also make the plain edits of the same seeds, side by side.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option("--progress/--no-progress", default=True, help="Progress bar on stderr.")
def edit(
    image: Path, instruction: str, out: Path, compare: bool, as_json: bool, strength: str, seed: int | None,
    checks: tuple[str, ...], no_check: bool, exporters: tuple[str, ...], keep_credits: bool, **options: Any,
) -> None:  # fmt: skip
    """Edit IMAGE as INSTRUCTION says, several times, each time differently.

    Writes edit-1.png ..., sheet.png and edits.json into the output folder; with --compare into its sub-folders plain/
    and diverse/, and one sheet.png for both.
    """
    from ctxrep_edit.imaging import read_mask, read_source

    amount = _strength(strength)
    source: Any = read_source(image)
    if options["mask"] is not None:
        options["mask"] = read_mask(options["mask"], source.image.size)
    _writable(out)
    from ctxrep_edit.api import diverse_edit
    from ctxrep_edit.plugins import catalog
    from ctxrep_edit.results.editset import FORMS
    from ctxrep_edit.sampling.particles import seeds

    if checks and no_check:
        raise InputError("--check and --no-check contradict each other: give one of them.")
    options["preserve"] = "off" if no_check else checks or "auto"
    forms = [catalog.EXPORTERS.get(name) for name in dict.fromkeys([*FORMS, *exporters])]
    first = seeds(seed, 1)[0]
    sets: dict[str, EditSet] = {}
    wanted = {"plain": 0.0, "diverse": amount} if compare else {"diverse": amount}
    for name, value in wanted.items():
        sets[name] = diverse_edit(source, instruction, strength=value, seed=first, **options)
    sheet = _write(sets, out, forms, keep_credits)
    if as_json:
        found = {name: {**edits.to_dict(), "vendi": _vendi(edits, no_check)} for name, edits in sets.items()}
        click.echo(json.dumps(found if compare else found["diverse"], indent=2))
        return
    _print(sets, no_check)
    click.echo(f"Look at {sheet}")


def _strength(text: str) -> Any:
    if text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        raise InputError(f"--strength is {text!r}, but must be a number >= 0, or auto.") from None


def _writable(folder: Path) -> None:
    """Finds out before the run whether its results can be written; makes nothing yet."""
    import tempfile

    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise OutputError(
            f"The folder {folder} cannot be written to: {error.strerror}. Name another with -o."
        ) from error


def _write(sets: dict[str, EditSet], out: Path, forms: Sequence[Exporter], keep_credits: bool) -> Path:
    if len(sets) == 1:
        (edits,) = sets.values()
        edits.save(out, forms, keep_credits=keep_credits)
        return out / "sheet.png"
    from ctxrep_edit.results.sheet import contact_sheet

    for name, edits in sets.items():
        edits.save(out / name, forms, keep_credits=keep_credits)
    sheet = contact_sheet([edits.row(f"{name}: {edits.instruction}") for name, edits in sets.items()])
    try:
        sheet.save(out / "sheet.png")
    except OSError as error:
        raise OutputError(
            f"The sheet {out / 'sheet.png'} cannot be written: {error.strerror}. Name another folder with -o."
        ) from error
    return out / "sheet.png"


def _vendi(edits: EditSet, no_check: bool) -> float | None:
    return None if no_check else round(edits.vendi, 4)


def _print(sets: dict[str, EditSet], no_check: bool) -> None:
    from rich.console import Console

    from ctxrep_edit.cli.tables import edits_table, sets_table

    console = Console()
    console.print(edits_table(sets))
    if not no_check:
        console.print(sets_table(sets))
