"""The command that goes on with a set."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ctxrep_edit.cli.following import follow, going_on
from ctxrep_edit.errors import InputError

if TYPE_CHECKING:
    from ctxrep_edit.results.edit import Edit
    from ctxrep_edit.results.editset import EditSet
    from ctxrep_edit.sampling.asked import Distinct


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("-n", "n", type=click.IntRange(1), default=4, show_default=True, help="How many more edits.")
@click.option("--unlike", help="Numbers of the edits to be repelled from, such as 2,5.  [default: all]")
@click.option(
    "--distinct",
    type=click.Choice(["count", "retry"]),
    help="Whether edits that repeat another are only counted, or made again.  [default: as the set was made]",
)
@going_on
def more(folder: Path, n: int, unlike: str | None, distinct: Distinct | None, **options: Any) -> None:
    """Make N more edits of the set in FOLDER, unlike those that are there.

    FOLDER was written by ctxrep-edit, with its bank.safetensors. The edits there and the new ones are written as one
    set, the new ones last.
    """

    def further(edits: EditSet, **now: Any) -> EditSet:
        chosen = None if unlike is None else _chosen(edits, unlike)
        return edits.more(n, unlike=chosen, distinct=distinct, **now)

    follow(folder, further, added=True, **options)


def _chosen(edits: EditSet, text: str) -> Sequence[Edit]:
    numbers = [int(number) for number in text.split(",")] if re.fullmatch(r"\d+(,\d+)*", text) else [0]
    if not all(1 <= number <= len(edits) for number in numbers):
        raise InputError(f"--unlike is {text!r}, but must be numbers of its {len(edits)} edits, such as 1,2.")
    return [edits[number - 1] for number in numbers]
