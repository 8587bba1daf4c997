"""`ctxrep-edit bench spread` and `ctxrep-edit bench faithful`."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ctxrep_edit import InputError

if TYPE_CHECKING:
    from ctxrep_plugins.bench.results import Results
    from ctxrep_plugins.bench.spread import Method, Task


@click.command()
@click.option("--photos", type=click.IntRange(1), default=10, show_default=True, help="How many crops.")
@click.option("-n", "n", type=click.IntRange(2), default=6, show_default=True, help="Edits per set.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of crops, wordings and noise.")
@click.option(
    "--model", "models", multiple=True, help="Embedded model, or a folder of its kind; repeatable.  [kontext-nano]"
)
@click.option("--folder", type=click.Path(path_type=Path), help="Your own photographs instead of scikit-image's.")
@click.option(
    "--method", "names", multiple=True,
    help="A strategy, with a strength if you like: plain, cads:0.25, contextual/paper:1; repeatable.  "
    "[plain and contextual]",
)  # fmt: skip
@click.option("--sweep", is_flag=True, help="Plain, every installed strategy at several strengths, and every scope.")
@click.option("--strength", type=float, help="Of the contextual repulsion.  [default: the model's]")
@click.option("--scope", help="Which tokens repel.  [default: the model's]")
@click.option("--tau", "steps", type=click.IntRange(1), help="First timesteps that repel.  [default: the model's]")
@click.option("--schedule", type=click.Choice(["constant", "linear"]), help="Over these.  [default: the model's]")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Also write the rows to this file.")
@click.option("--markdown", type=click.Path(path_type=Path), help="Also write a Markdown table to this file.")
@click.option("--plot", type=click.Path(path_type=Path), help="Also draw spread against share right: .png or .svg.")
@click.option("--trials", type=click.Path(path_type=Path), help="Keep every set's figures here, and resume from it.")
def spread(
    photos: int, n: int, seed: int, models: tuple[str, ...], folder: Path | None, names: tuple[str, ...], sweep: bool,
    file: Path | None, markdown: Path | None, plot: Path | None, trials: Path | None, **changes: Any,
) -> None:  # fmt: skip
    """Count distinct right answers of strategies, on photographs whose right answers are known.

    Each crop is edited with an open and a pinned wording of every edit ("add a sticker", "add a cat sticker"), all
    methods from the same seeds. Intervals are 95 %, by bootstrap over crops.
    """
    from ctxrep_plugins.bench import results as outcome
    from ctxrep_plugins.bench import spread as measure
    from ctxrep_plugins.nano.world import photos as photographs
    from rich.console import Console

    from ctxrep_edit import default_settings, load_pipeline

    if sweep and names:
        raise InputError("--sweep takes every strategy, so that --method has no meaning beside it: give one of them.")
    if plot is not None:
        outcome.need_matplotlib()
    pictures = photographs.read_folder(folder) if folder else photographs.held_out()
    if not pictures:
        raise InputError(f"{folder} holds no photograph of at least 320 pixels a side: name another --folder.")
    changes = {name: value for name, value in changes.items() if value is not None}
    if "strength" in changes:
        changes["eta"] = None
    rows = []
    for model in models or ("kontext-nano",):
        pipeline = load_pipeline(model)
        settings = replace(default_settings(pipeline), **changes)
        methods = _methods(pipeline, names, sweep, changes, settings.scope)
        work = list(measure.tasks(pictures, photos, seed))
        asked = {"model": model, "n": n, "seed": seed, "folder": str(folder or "")}
        with outcome.Results(trials, **asked, **asdict(settings)) as found:
            for task, how in _left(work, methods, found):
                try:
                    found.add(how, measure.run(pipeline, task, how, n))
                except Exception as error:  # a strategy of anybody's
                    found.fail(how, f"{type(error).__name__}: {error}")
                    warnings.warn(f"The method {how.label} failed and is left out: {error}", stacklevel=1)
            rows += found.rows(methods, photos)
    for write, target in ((outcome.write_json, file), (outcome.write_markdown, markdown), (outcome.draw, plot)):
        if target is not None:
            write(target, rows)
    for pinned in (False, True):
        Console().print(outcome.table(rows, pinned))


def _methods(
    pipeline: Any, names: Sequence[str], sweep: bool, changes: dict[str, Any], own_scope: str | None
) -> list[Method]:
    """own_scope: the one in which contextual repulsion comes."""
    from ctxrep_plugins.bench import spread as measure

    from ctxrep_edit import STRATEGIES, adapter_for

    if not sweep:
        return [measure.method(name, pipeline, changes) for name in names or ("plain", "contextual")]
    found = ["plain"]
    for name, strategy in STRATEGIES.all().items():
        found += [f"{name}:{strength:g}" for strength in measure.SWEEP.get(name, (strategy.strength,))]
        if strategy.repels:  # as it comes, and in every other scope
            scopes = (scope for scope in adapter_for(pipeline).scopes if scope != own_scope)
            found += [name, *(f"{name}/{scope}" for scope in scopes)]
    return [measure.method(name, pipeline, changes) for name in found]


def _left(work: Sequence[Task], methods: Sequence[Method], found: Results) -> Iterator[tuple[Task, Method]]:
    """What is still to be done, with a progress bar; every method has its turn on a task before the next one."""
    from rich.console import Console
    from rich.progress import track

    left = [(task, how) for task in work for how in methods if not found.has(task, how)]
    console = Console(stderr=True)
    for task, how in track(left, "measuring", console=console, disable=not console.is_terminal):
        if how.label not in found.failures:
            yield task, how


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

    Right answers are rendered exactly and sent through the autoencoder, six to a set; faults are planted in the first.
    The model's own edits are judged by the strict judge, and unfaithful ones made again.
    """
    from ctxrep_plugins.bench.faithful import measure
    from rich.console import Console
    from rich.table import Table

    from ctxrep_edit import load_pipeline

    found = measure(load_pipeline(model, progress=False), photos, sampled, seed)
    regions = {name: [sum(iou) / len(iou), min(iou), len(iou)] for name, iou in found.iou.items() if iou}
    apart = sum(found.told_apart) / len(found.told_apart)
    retried = {way: _before_and_after(sets) for way, sets in found.retried.items()}
    if as_json:
        flagged = [
            {"edits": kind, "what": what, "region": mask, "flagged": sum(said) / len(said), "n": len(said),
             "by": dict(Counter(found.by[kind, what, mask]))}
            for (kind, what, mask), said in found.flagged.items()
        ]  # fmt: skip
        click.echo(
            json.dumps({"flagged": flagged, "iou": regions, "part_or_whole": apart, "retried": retried}, indent=2)
        )
        return
    table = Table("edits of", "what", "region", "flagged", "of", "by", title="Flagged", title_justify="left")
    for (kind, what, mask), said in sorted(found.flagged.items()):
        by = ", ".join(f"{name} {times}" for name, times in Counter(found.by[kind, what, mask]).most_common())
        table.add_row(f"a {kind}", what, mask, f"{sum(said) / len(said):.3f}", str(len(said)), by)
    Console().print(table)
    table = Table(
        "edit", "mean IoU", "worst", "of", title="Estimated region against the true one", title_justify="left"
    )
    for name, (mean, worst, count) in sorted(regions.items()):
        table.add_row(name, f"{mean:.3f}", f"{worst:.3f}", str(count))
    Console().print(table)
    click.echo(f"Part or whole told right in {apart:.3f} of {len(found.told_apart)} sets.")
    if not retried:
        return
    table = Table(
        "asked", "right before", "right after", "distinct before", "distinct after", "sets",
        title="Repelled sets, their unfaithful edits made again", title_justify="left",
    )  # fmt: skip
    for way, said in retried.items():
        numbers = [f"{said[name]:.3f}" for name in ("right_before", "right_after", "distinct_before", "distinct_after")]
        table.add_row(way, *numbers, str(said["sets"]))
    Console().print(table)


def _before_and_after(sets: Sequence[tuple[tuple[int, int], tuple[int, int]]]) -> dict[str, float]:
    """The share of right edits and the mean number of distinct right answers, before retrying and after."""
    from ctxrep_plugins.bench.faithful import SIZE

    means = [[sum(pair[when][what] for pair in sets) / len(sets) for what in (0, 1)] for when in (0, 1)]
    (before, distinct), (after, left) = means
    return {
        "right_before": before / SIZE, "right_after": after / SIZE, "distinct_before": distinct,
        "distinct_after": left, "sets": len(sets),
    }  # fmt: skip
