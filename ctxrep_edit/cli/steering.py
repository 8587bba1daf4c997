"""The commands that lean on edits of a set: a walk between two, and variations of one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ctxrep_edit.cli.edit import check_writable, named_forms, print_json, print_tables, write
from ctxrep_edit.cli.more import loaded
from ctxrep_edit.errors import InputError

if TYPE_CHECKING:
    from ctxrep_edit.results.editset import EditSet


def _shared(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--progress/--no-progress", default=True, help="Progress bar on stderr."),
        click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables."),
        click.option("--export", "exporters", multiple=True, help="Write this form too, beside png, sheet, json."),
        click.option("--device", help="Torch device, such as cuda or cpu.  [default: what made the set]"),
        click.option("--force", is_flag=True, help="Replace the set in the folder for the results."),
        click.option(
            "-o", "--out", type=click.Path(path_type=Path),
            help="Folder for the results; one that holds a set gets a new one in it.  [default: FOLDER]",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("one", type=int)
@click.argument("other", type=int)
@click.option("-n", "n", type=click.IntRange(2), default=5, show_default=True, help="How many edits, both ends too.")
@click.option(
    "--beyond", type=click.FloatRange(0, 1), default=0.0, show_default=True,
    help="How far past the second edit, in shares of the way.",
)  # fmt: skip
@_shared
def between(folder: Path, one: int, other: int, n: int, beyond: float, **options: Any) -> None:
    """Walk from edit ONE to edit OTHER of the set in FOLDER, through contextual space.

    FOLDER was written by ctxrep-edit, with its bank.safetensors; edits are counted from 1. The walk is a set of
    its own.
    """

    def walk(edits: EditSet, **more: Any) -> EditSet:
        return edits.between(_at(edits, one), _at(edits, other), n, beyond=beyond, **more)

    _make(folder, walk, **options)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("number", type=int)
@click.option("-n", "n", type=click.IntRange(1), default=4, show_default=True, help="How many variations.")
@click.option(
    "--spread", type=click.FloatRange(0, 1), default=0.3, show_default=True,
    help="0: the edit itself, 1: edits that have nothing of it.",
)  # fmt: skip
@_shared
def like(folder: Path, number: int, n: int, spread: float, **options: Any) -> None:
    """Make N variations of edit NUMBER of the set in FOLDER.

    FOLDER was written by ctxrep-edit, with its bank.safetensors; edits are counted from 1. The variations are a set of
    their own.
    """
    _make(folder, lambda edits, **more: edits.like(_at(edits, number), n, spread=spread, **more), **options)


def _make(
    folder: Path, made: Callable[..., EditSet], out: Path | None, force: bool, device: str | None,
    exporters: tuple[str, ...], as_json: bool, progress: bool,
) -> None:  # fmt: skip
    forms = named_forms([*exporters, "bank"])
    out = out or folder
    check_writable(out)
    from ctxrep_edit.results.editset import EditSet
    from ctxrep_edit.results.places import Numbered

    edits = EditSet.load(folder)
    pipeline = None if device is None else loaded(edits, device)
    sets, place = {"diverse": made(edits, pipeline=pipeline, progress=progress)}, Numbered(force)
    write(sets, out, forms, place)
    if place.note:
        click.echo(f"{place.note}: written into {click.format_filename(place.folder)}", err=True)
    no_check = not any(edit.verdicts for edit in sets["diverse"])
    (print_json if as_json else print_tables)(sets, place.folder, no_check)


def _at(edits: EditSet, number: int) -> int:
    """The place of the edit of that number. Raises InputError."""
    if not 1 <= number <= len(edits):
        raise InputError(f"There is no edit {number}: the set has edits 1 to {len(edits)}.")
    return number - 1
