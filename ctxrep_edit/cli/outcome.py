"""What commands that make sets write of them, and what they print."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ctxrep_edit.errors import CtxrepError
from ctxrep_edit.results.valid_json import encode_json

if TYPE_CHECKING:
    from ctxrep_edit.plugins.contracts import Exporter
    from ctxrep_edit.results.editset import EditSet
    from ctxrep_edit.results.places import Numbered


def write(sets: dict[str, EditSet], out: Path, forms: Sequence[Exporter], place: Numbered) -> None:
    from ctxrep_edit.results.export import export
    from ctxrep_edit.results.png import encode_png
    from ctxrep_edit.results.sheet import contact_sheet

    if len(sets) == 1:
        export({"": next(iter(sets.values()))}, out, forms, place)
        return
    sheet = contact_sheet([edits.row(f"{name}: {edits.instruction}") for name, edits in sets.items()])
    export(sets, out, forms, place, {"sheet.png": encode_png(sheet, "{}")})


def write_with_bank(
    sets: dict[str, EditSet], out: Path, forms: Sequence[Exporter], bank: Sequence[Exporter], place: Numbered
) -> None:
    """As `write`; without the bank, where nobody asked for it and it cannot be written."""
    unasked = [form for form in bank if form not in forms]
    try:
        write(sets, out, [*forms, *unasked], place)
    except CtxrepError as error:
        if not unasked:
            raise
        write(sets, out, forms, place)
        click.echo(f"The set was written without its bank, so that no command can go on from it: {error}", err=True)


def say_done(done: Iterable[EditSet], folder: Path) -> None:
    """What was done of each of these when a run came to its end too early, and where it is."""
    where = click.format_filename(folder)
    for edits in done:
        click.echo(f"{len(edits)} of {edits.recipe['n']} edits were done; they are in {where}", err=True)


def print_json(sets: dict[str, EditSet], folder: Path, no_check: bool) -> None:
    found = {}
    for name, edits in sets.items():
        own = folder / name if len(sets) > 1 else folder
        seen = not no_check and len(edits) > 0
        spread = {"vendi": round(edits.vendi, 4) if seen else None, "distinct": edits.distinct if seen else None}
        found[name] = {**edits.to_dict(), **spread, "folder": str(own)}
    click.echo(encode_json(found if len(sets) > 1 else next(iter(found.values()))))


def print_tables(sets: dict[str, EditSet], folder: Path, no_check: bool) -> None:
    from ctxrep_edit.cli.tables import edits_table, objections, terminal, wrapped

    terminal().print(edits_table(sets))
    for line in objections(sets):
        click.echo(wrapped(line))
    for name, edits in sets.items():
        score = ""
        if not no_check and edits:
            score = f"{edits.distinct} different of {len(edits)}, Vendi score {edits.vendi:.2f}, "
        click.echo(f"{name}: {score}sampled in {edits.seconds:.2f} s")
        if edits.recipe.get("agreed"):
            click.echo("Nearly all are one edit, so the words seem to leave no other: none was made again.")
    click.echo(f"Look at {click.format_filename(folder / 'sheet.png')}")
