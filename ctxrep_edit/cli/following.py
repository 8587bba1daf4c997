"""What the commands have in common that go on from a set in a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ctxrep_edit.cli.edit import check_writable, named_forms
from ctxrep_edit.cli.outcome import print_json, print_tables, write
from ctxrep_edit.errors import InputError

if TYPE_CHECKING:
    from ctxrep_edit.results.editset import EditSet


def going_on(command: Callable[..., None]) -> Callable[..., None]:
    """With the options that `follow` takes."""
    for option in (
        click.option("--progress/--no-progress", default=True, help="Progress bar on stderr."),
        click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables."),
        click.option(
            "--export", "exporters", multiple=True, help="Write this form too, beside png, sheet, json; repeatable."
        ),
        click.option("--device", help="Torch device, such as cuda or cpu.  [default: what made the set]"),
        click.option("--force", is_flag=True, help="Replace the set in that folder."),
        click.option(
            "-o", "--out", type=click.Path(path_type=Path),
            help="Folder for the results; one that holds a set gets a new one in it.  [default: FOLDER]",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def follow(
    folder: Path, made: Callable[..., EditSet], *, out: Path | None, force: bool, device: str | None,
    exporters: tuple[str, ...], as_json: bool, progress: bool,
) -> None:  # fmt: skip
    """Writes the set that is made from the one in a folder, and says what came of it.

    made: from the set there, with `pipeline` and `progress` as `EditSet.more` takes them.
    """
    if not folder.is_dir():
        raise InputError(
            f"FOLDER is {click.format_filename(folder)!r}, which is no folder: name one that ctxrep-edit has written a "
            "set into."
        )
    forms = named_forms([*exporters, "bank"])
    out = out or folder
    check_writable(out)
    from ctxrep_edit.results.editset import EditSet
    from ctxrep_edit.results.places import Numbered

    edits = EditSet.load(folder)
    pipeline = None if device is None else _loaded(edits, device)
    found, place = made(edits, pipeline=pipeline, progress=progress), Numbered(force)
    sets = {"diverse": found}
    write(sets, out, forms, place)
    if place.note:
        click.echo(f"{place.note}: written into {click.format_filename(place.folder)}", err=True)
    (print_json if as_json else print_tables)(sets, place.folder, not any(edit.verdicts for edit in found))


def _loaded(edits: EditSet, device: str) -> Any:
    """The pipeline that made them, on that device."""
    from ctxrep_edit.sampling.pipelines import load_pipeline

    asked = edits.asked
    if asked is None:
        return None
    return load_pipeline(asked.arguments["model"], device=device, dtype=asked.arguments["dtype"])
