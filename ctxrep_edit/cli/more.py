"""The command that goes on with a set."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ctxrep_edit.cli.edit import check_writable, named_forms, print_json, print_tables, write
from ctxrep_edit.errors import InputError

if TYPE_CHECKING:
    from ctxrep_edit.results.edit import Edit
    from ctxrep_edit.results.editset import EditSet


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("-n", "n", type=click.IntRange(1), default=4, show_default=True, help="How many more edits.")
@click.option("--unlike", help="Numbers of the edits to be repelled from, such as 2,5.  [default: all]")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path),
    help="Folder for the results; one that holds a set gets a new one in it.  [default: FOLDER]",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Replace the set in that folder.")
@click.option("--device", help="Torch device, such as cuda or cpu.  [default: what made the set]")
@click.option("--export", "exporters", multiple=True, help="Write this form too, beside png, sheet, json; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option("--progress/--no-progress", default=True, help="Progress bar on stderr.")
def more(
    folder: Path, n: int, unlike: str | None, out: Path | None, force: bool, device: str | None,
    exporters: tuple[str, ...], as_json: bool, progress: bool,
) -> None:  # fmt: skip
    """Make N more edits of the set in FOLDER, unlike those that are there.

    FOLDER was written by ctxrep-edit, with its bank.safetensors. The edits there and the new ones are written as one
    set, the new ones last.
    """
    forms = named_forms([*exporters, "bank"])
    out = out or folder
    check_writable(out)
    from ctxrep_edit.results.editset import EditSet
    from ctxrep_edit.results.places import Numbered

    edits = EditSet.load(folder)
    chosen = None if unlike is None else _chosen(edits, unlike)
    pipeline = None if device is None else loaded(edits, device)
    both = edits + edits.more(n, unlike=chosen, pipeline=pipeline, progress=progress)
    sets, place = {"diverse": both}, Numbered(force)
    write(sets, out, forms, place)
    if place.note:
        click.echo(f"{place.note}: written into {click.format_filename(place.folder)}", err=True)
    (print_json if as_json else print_tables)(sets, place.folder, not any(edit.verdicts for edit in both))


def _chosen(edits: EditSet, text: str) -> Sequence[Edit]:
    numbers = [int(number) for number in text.split(",")] if re.fullmatch(r"\d+(,\d+)*", text) else [0]
    if not all(1 <= number <= len(edits) for number in numbers):
        raise InputError(f"--unlike is {text!r}, but must be numbers of its {len(edits)} edits, such as 1,2.")
    return [edits[number - 1] for number in numbers]


def loaded(edits: EditSet, device: str) -> Any:
    """The pipeline that made them, on that device."""
    from ctxrep_edit.sampling.pipelines import load_pipeline

    asked = edits.asked
    return None if asked is None else load_pipeline(asked.arguments["model"], device=device)
