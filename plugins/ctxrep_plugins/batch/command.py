"""The command."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ctxrep_edit import InputError

if TYPE_CHECKING:
    from ctxrep_plugins.batch.folder import Folder
    from ctxrep_plugins.batch.making import Maker, Record
    from ctxrep_plugins.batch.manifest import Row

TOLD = 20
"""How many failed rows are named."""


@click.command()
@click.argument("manifest", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Folder for sets and results.")
@click.option("-n", "n", type=click.IntRange(1), default=6, show_default=True, help="Edits of rows without n.")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Rows without a seed derive it from this."
)
@click.option("--model", help="Embedded model, local pipeline folder, or hub id.  [default: kontext-nano]")
@click.option("--device", help="Torch device, such as cuda or cpu.  [default: what torch finds]")
@click.option("--dtype", help="float32, bfloat16 or float16.  [default: float32 on a CPU, else bfloat16]")
@click.option("--fail-fast", is_flag=True, help="End with the first row that fails.")
@click.option("--retry-failed", is_flag=True, help="Make rows again that failed in an earlier run.")
@click.option(
    "--results", "forms", type=click.Choice(["csv", "parquet"]), multiple=True,
    help="Also write results in this form, a line for each edit; repeatable.",
)  # fmt: skip
@click.option("--ray", "address", help="Spread rows over a Ray cluster: 'local' for one here, 'auto', or HOST:PORT.")
@click.option("--actors", type=click.IntRange(1), help="Pipelines on Ray.  [default: one for each GPU, else one]")
@click.option("--progress/--no-progress", default=True, help="Progress bar on stderr.")
def batch(
    manifest: Path, out: Path, n: int, seed: int, fail_fast: bool, retry_failed: bool, forms: tuple[str, ...],
    address: str | None, actors: int | None, progress: bool, **model: Any,
) -> None:  # fmt: skip
    """Make a set of edits for each row of MANIFEST: .csv, .jsonl or .parquet.

    \b
    image,instruction,n,seed,mask
    photo.jpg,make it autumn,4,7,
    room.jpg,change the light,,,table.png

    Columns are image and instruction, and if you like id, mask, n, seed, strength, scope, window, strategy,
    oversample, batch_size, steps, guidance_scale, true_cfg_scale, negative_prompt, denoising_strength, width, height,
    preserve, on_unfaithful, distinct, vary, retries, restore, realign; an empty cell is as if there were none. Paths
    are relative to MANIFEST. All rows are checked before the first is made.

    OUT gets a folder for each row, called by its id, and results.jsonl. Called again, it makes what is missing or has
    changed. Rows that fail do not end it; the exit status is 1 if any did. See docs/many-pictures.md.
    """
    # 1. Everything that can be wrong is found before anything is made.
    if address is None and actors is not None:
        raise InputError("--actors is for --ray, which is not given: give it too.")
    from ctxrep_plugins.batch import manifest as manifests

    rows = manifests.read(manifest, n, seed)
    if "parquet" in forms:
        from ctxrep_plugins.batch.tables import need_parquet

        need_parquet()
    beside = {"model": model["model"] or "kontext-nano", "dtype": model["dtype"]}
    rows = [row.marked(**beside) for row in rows]
    from ctxrep_plugins.batch.folder import Folder
    from ctxrep_plugins.batch.results import Results

    folder = Folder(out)
    with folder.locked():
        folder.open(rows)
        results = Results(out, rows, forms)
        failures = {} if retry_failed else results.failed_before()
        for row in rows:
            known = folder.record(row) or failures.get(row.digest)
            if known:
                here = {"id": row.id, "row": row.place, **row.stated}  # it may be called otherwise, and stand elsewhere
                results.records[row.id] = known | here
        left, before = [row for row in rows if row.id not in results.records], dict(results.records)
        with _maker(address, actors, left, folder, model) as maker:
            faults = manifests.Faults(manifest)
            for found in _shown(maker.faults(), "checking", len(left), progress):
                for fault in found:
                    faults.add(*fault)
            faults.check()
            # 2. The sets.
            try:
                with closing(maker.records()) as records:
                    for record in _shown(records, "editing", len(left), progress):
                        results.add(record)
                        if fail_fast and record["error"]:
                            break
            finally:
                results.close()
    _tell(rows, results.records, before, out)


def _tell(rows: Sequence[Row], records: dict[str, Record], before: dict[str, Record], out: Path) -> None:
    """Raises ClickException where rows failed."""
    wrong = [record for record in records.values() if record["error"]]
    made = len(records) - len(wrong) - sum(1 for record in before.values() if not record["error"])
    click.echo(
        f"{made} of {len(rows)} rows made, {len(records) - len(wrong) - made} made before, {len(wrong)} failed, "
        f"{len(rows) - len(records)} not begun. See {click.format_filename(out / 'results.jsonl')}"
    )
    warned = sum(1 for record in records.values() if record["warnings"])
    if warned:
        click.echo(f"Rows with warnings, which stand in the results: {warned}.", err=True)
    if wrong:
        said = [f"{record['row']}, {record['id']}: {record['error']}" for record in wrong[:TOLD]]
        said += [f"and {len(wrong) - TOLD} more"] if len(wrong) > TOLD else []
        old = sum(1 for record in wrong if record["id"] in before)
        hint = f"; {old} of them in an earlier run: --retry-failed makes them again" if old else ""
        raise click.ClickException("\n  ".join([f"{len(wrong)} of {len(rows)} rows failed{hint}:", *said]))


@contextmanager
def _maker(
    address: str | None, actors: int | None, rows: Sequence[Row], folder: Folder, model: dict[str, Any]
) -> Iterator[Maker]:
    """What makes the rows: a pipeline here, or several on Ray."""
    from ctxrep_plugins.batch.making import Here

    if address is None or not rows:
        yield Here(rows, folder, model)
    else:
        from ctxrep_plugins.batch.on_ray import on_ray

        with on_ray(address, actors, rows, folder, model) as maker:
            yield maker


def _shown(work: Iterable[Any], what: str, total: int, progress: bool) -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return iter(track(work, what, total, console=console, disable=not (progress and console.is_terminal and total)))
