"""`ctxrep-edit bench faithful`."""

from __future__ import annotations

import click


@click.command()
@click.option("--photos", type=click.IntRange(1), default=10, show_default=True, help="How many crops.")
@click.option(
    "--sampled", type=click.IntRange(0), default=2, show_default=True, help="Of them, edited by the model too."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of crops, answers, faults and noise.")
@click.option("--model", default="kontext-nano", show_default=True, help="Embedded model, or a folder of its kind.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def faithful(photos: int, sampled: int, seed: int, model: str, as_json: bool) -> None:
    """Measure the default checks where the truth is known: what they catch, and what they flag wrongly.

    Right answers are rendered exactly and sent through the autoencoder, six to a set; faults are planted in the first,
    or nothing is done in it. A rare answer among five typical ones is right too.
    The model's own edits are judged by the strict judge, and unfaithful ones made again.
    """
    from ctxrep_plugins.bench.faithful import tables
    from ctxrep_plugins.bench.faithful.measurement import measure
    from rich.console import Console

    from ctxrep_edit import encode_json, load_pipeline

    found = measure(load_pipeline(model, progress=False), photos, sampled, seed)
    stated = tables.summary(found)
    if as_json:
        click.echo(encode_json(stated))
        return
    console = Console(markup=False, emoji=False)
    console.print(tables.flagged(stated))
    console.print(tables.regions(stated))
    click.echo(f"Part or whole told right in {stated['part_or_whole']:.3f} of {len(found.told_apart)} sets.")
    if stated["retried"]:
        console.print(tables.retried(stated))
