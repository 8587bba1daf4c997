"""What the commands have in common that go on from a set in a folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ctxrep_edit.cli.edit import check_writable, named_forms, settled
from ctxrep_edit.cli.outcome import print_json, print_tables, say_done, write_with_bank
from ctxrep_edit.errors import InputError, Unfaithful

if TYPE_CHECKING:
    from ctxrep_edit.plugins.contracts import Exporter
    from ctxrep_edit.results.editset import EditSet
    from ctxrep_edit.results.places import Numbered


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
    exporters: tuple[str, ...], as_json: bool, progress: bool, added: bool = False,
) -> None:  # fmt: skip
    """Writes the set that is made from the one in a folder, and says what came of it.

    made: from the set there, with `pipeline` and `progress` as `EditSet.more` takes them. added: whether it is written
    behind the set there, as one with it.
    """
    if not folder.is_dir():
        raise InputError(
            f"FOLDER is {click.format_filename(folder)!r}, which is no folder: name one that ctxrep-edit has written a "
            "set into."
        )
    forms, bank = named_forms(exporters), named_forms(["bank"])[-1:]
    out = out or folder
    check_writable(out)
    from ctxrep_edit.results.assembly import settle
    from ctxrep_edit.results.editset import EditSet
    from ctxrep_edit.results.places import Numbered

    edits = EditSet.load(folder)
    pipeline = None if device is None else _loaded(edits, device)
    place, policy = Numbered(force), "flag"

    def whole(found: EditSet) -> EditSet:
        return replace(edits + found if added else found, credits=edits.credits)

    try:
        found = whole(made(edits, pipeline=pipeline, progress=progress))
    except Unfaithful as error:
        found, policy = whole(settle(error.edits, "drop")), "raise"
    except BaseException as error:
        _save_done(getattr(error, "edits", None), whole, out, forms, bank, place)
        raise
    sets = {"diverse": found}
    write_with_bank(sets, out, forms, bank, place)
    if place.note:
        click.echo(f"{place.note}: written into {click.format_filename(place.folder)}", err=True)
    (print_json if as_json else print_tables)(sets, place.folder, not any(edit.verdicts for edit in found))
    settled(sets, place.folder, policy)


def _save_done(
    done: EditSet | None, whole: Callable[[EditSet], EditSet], out: Path, forms: Sequence[Exporter],
    bank: Sequence[Exporter], place: Numbered,
) -> None:  # fmt: skip
    """Writes the edits that were done when a run came to its end too early, if there are any."""
    if done:
        write_with_bank({"diverse": whole(done)}, out, forms, bank, place)
        say_done([done], place.folder)


def _loaded(edits: EditSet, device: str) -> Any:
    """The pipeline that made them, on that device."""
    from ctxrep_edit.sampling.pipelines import load_pipeline

    asked = edits.asked
    if asked is None:
        return None
    return load_pipeline(asked.arguments["model"], device=device, dtype=asked.arguments["dtype"])
