"""The commands that lean on edits of a set: a walk between two, and variations of one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ctxrep_edit.cli.following import follow, going_on
from ctxrep_edit.errors import InputError

if TYPE_CHECKING:
    from ctxrep_edit.results.editset import EditSet


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("one", type=int)
@click.argument("other", type=int)
@click.option("-n", "n", type=click.IntRange(2), default=5, show_default=True, help="How many edits, both ends too.")
@click.option(
    "--beyond", type=click.FloatRange(0, 1), default=0.0, show_default=True,
    help="How far past the second edit, in shares of the way.",
)  # fmt: skip
@going_on
def between(folder: Path, one: int, other: int, n: int, beyond: float, **options: Any) -> None:
    """Walk from edit ONE to edit OTHER of the set in FOLDER, through contextual space.

    FOLDER was written by ctxrep-edit, with its bank.safetensors; edits are counted from 1. The walk is a set of
    its own.
    """

    def walk(edits: EditSet, **more: Any) -> EditSet:
        return edits.between(_at(edits, one), _at(edits, other), n, beyond=beyond, **more)

    follow(folder, walk, **options)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("number", type=int)
@click.option("-n", "n", type=click.IntRange(1), default=4, show_default=True, help="How many variations.")
@click.option(
    "--spread", type=click.FloatRange(0, 1), default=0.3, show_default=True,
    help="0: the edit itself, 1: edits that have nothing of it.",
)  # fmt: skip
@going_on
def like(folder: Path, number: int, n: int, spread: float, **options: Any) -> None:
    """Make N variations of edit NUMBER of the set in FOLDER.

    FOLDER was written by ctxrep-edit, with its bank.safetensors; edits are counted from 1. The variations are a set of
    their own.
    """
    follow(folder, lambda edits, **more: edits.like(_at(edits, number), n, spread=spread, **more), **options)


def _at(edits: EditSet, number: int) -> int:
    """The place of the edit of that number. Raises InputError."""
    if not 1 <= number <= len(edits):
        raise InputError(f"There is no edit {number}: the set has edits 1 to {len(edits)}.")
    return number - 1
