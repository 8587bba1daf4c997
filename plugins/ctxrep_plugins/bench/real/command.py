"""`ctxrep-edit bench real`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--sheet", type=click.Path(path_type=Path), help="Also draw the worst misses: .png.")
@click.option("--most", type=click.IntRange(1), default=12, show_default=True, help="Misses on the sheet.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def real(folder: Path, sheet: Path | None, most: int, as_json: bool) -> None:
    """Measure the default checks on real edits that somebody labelled.

    FOLDER holds pictures and a manifest.json, a list of objects: source, edit, kind (local, global, background),
    rest_kept (yes, no) and boxes of what was edited; docs/faithfulness.md says more. Each pair is judged alone, without
    a mask, and where it has boxes with these as the mask; so is its source, saved as a JPEG, as an edit that did
    nothing.
    """
    from ctxrep_plugins.bench.real import tables
    from ctxrep_plugins.bench.real.labels import read_folder
    from ctxrep_plugins.bench.real.measurement import measure
    from rich.console import Console

    from ctxrep_edit import OutputError, encode_json, encode_png

    found = measure(read_folder(folder))
    stated = tables.summary(found)
    if as_json:
        click.echo(encode_json(stated))
    else:
        console = Console(markup=False, emoji=False)
        console.print(tables.overall(stated))
        console.print(tables.checks(stated))
        click.echo(tables.rest(stated))
    if sheet is not None and (picture := tables.sheet(found, most)) is not None:
        try:
            sheet.write_bytes(encode_png(picture))
        except OSError as error:
            raise OutputError(f"{sheet} cannot be written: {error.strerror}. Name another file.") from error
