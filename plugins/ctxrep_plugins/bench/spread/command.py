"""`ctxrep-edit bench spread`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from ctxrep_plugins.shared import write

from ctxrep_edit import InputError, encode_json

if TYPE_CHECKING:
    from ctxrep_plugins.bench.spread.methods import Method
    from ctxrep_plugins.bench.spread.results import Results
    from ctxrep_plugins.bench.tasks import Task

MEND = "Name another file."


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
    help="A strategy, with a strength if you like: plain, cads:0.25, contextual/paper:1, contextual*2 (oversampled), "
    "contextual@2 (in batches of two), contextual+ (repeats made again); repeatable.  [plain and contextual]",
)  # fmt: skip
@click.option("--sweep", is_flag=True, help="Plain, every installed strategy at several strengths, and every scope.")
@click.option("--strength", type=float, help="Of the contextual repulsion.  [default: the model's]")
@click.option("--scope", help="Which tokens repel.  [default: the model's]")
@click.option("--window", type=click.FloatRange(0, 1, min_open=True), help="Share of the noise range that repels.")
@click.option("--tau", type=click.IntRange(1), help="First timesteps that repel, in place of a window.")
@click.option("--schedule", type=click.Choice(["constant", "linear"]), help="Over these.  [default: the model's]")
@click.option("--oversample", type=click.IntRange(1), help="Candidates that start per edit.  [default: the model's]")
@click.option("--churn", type=click.FloatRange(0, 1), help="Noise drawn anew after the window.  [default: the model's]")
@click.option("--hold", type=click.FloatRange(0, 1), help="Noise that goes by on one answer.  [default: the model's]")
@click.option("--steps", type=click.IntRange(1), help="Of the sampler.  [default: the model's]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option("-o", "--output", "file", type=click.Path(path_type=Path), help="Also write the JSON to this file.")
@click.option("--markdown", type=click.Path(path_type=Path), help="Also write a Markdown table to this file.")
@click.option(
    "--plot", "picture", type=click.Path(path_type=Path), help="Also draw spread against share right: .png or .svg."
)
@click.option(
    "--blind-plot", type=click.Path(path_type=Path),
    help="Also draw what needs no truth: the Vendi score against LPIPS outside.",
)  # fmt: skip
@click.option("--trials", type=click.Path(path_type=Path), help="Keep every set's figures here, and resume from it.")
def spread(
    photos: int, n: int, seed: int, models: tuple[str, ...], folder: Path | None, names: tuple[str, ...], sweep: bool,
    as_json: bool, file: Path | None, markdown: Path | None, picture: Path | None, trials: Path | None,
    blind_plot: Path | None, steps: int | None, tau: int | None, **changes: Any,
) -> None:  # fmt: skip
    """Count distinct right answers of strategies, on photographs whose right answers are known.

    Each crop is edited with an open and a pinned wording of every edit ("add a sticker", "add a cat sticker"), all
    methods from the same seeds. Intervals are 95 %, by bootstrap over crops.
    """
    from ctxrep_plugins.bench.spread import methods, plot, tables
    from ctxrep_plugins.bench.spread.results import Results
    from ctxrep_plugins.bench.spread.trials import run
    from ctxrep_plugins.bench.tasks import sizes_of, tasks
    from ctxrep_plugins.nano.world.photos import held_out, read_folder
    from rich.console import Console

    from ctxrep_edit import default_settings, load_pipeline

    if sweep and names:
        raise InputError("--sweep takes every strategy, so that --method has no meaning beside it: give one of them.")
    if picture is not None or blind_plot is not None:
        plot.need_matplotlib()
    pictures = read_folder(folder) if folder else held_out()
    if not pictures:
        raise InputError(f"{folder} holds no photograph of at least 320 pixels a side: name another --folder.")
    changes = {name: value for name, value in {**changes, "steps": tau}.items() if value is not None}
    for name, other in (("strength", "eta"), ("window", "steps")):
        if name in changes:
            changes.setdefault(other, None)
    if tau is not None:  # in each of them the transformer is asked, whatever the model states
        changes.setdefault("hold", 0.0)
    rows, said = [], []
    for model in models or ("kontext-nano",):
        pipeline = load_pipeline(model)
        settings = replace(default_settings(pipeline), **changes)
        if sweep:
            compared = methods.sweep(pipeline, changes, settings)
        else:
            compared = [methods.method(name, pipeline, changes) for name in names or ("plain", "contextual")]
        work = list(tasks(pictures, photos, seed, sizes=sizes_of(pipeline)))
        asked = {"model": model, "n": n, "seed": seed, "folder": str(folder or ""), "sampler_steps": steps}
        with Results(trials, **asked, **asdict(settings)) as found:
            for task, how in _left(work, compared, found):
                try:
                    found.add(how, run(pipeline, task, how, n, steps))
                except Exception as error:  # a strategy of anybody's
                    found.fail(how, f"{type(error).__name__}: {error}")
                    warnings.warn(f"The method {how.label} failed and is left out: {error}", stacklevel=1)
            rows += found.rows(compared, photos)
            said.append(f"{model}: {found.agreement()}")
    text = encode_json(rows)
    if file is not None:
        write(file, text.encode() + b"\n", MEND)
    if markdown is not None:
        write(markdown, tables.as_markdown(rows).encode(), MEND)
    for drawn, axes in ((picture, plot.TRUE), (blind_plot, plot.BLIND)):
        if drawn is not None:
            write(drawn, plot.drawing(rows, drawn.suffix.lstrip(".") or "png", *axes), MEND)
    if as_json:
        click.echo(text)
        return
    console = Console(markup=False, emoji=False)  # a model's folder may be called anything
    for pinned in (False, True):
        console.print(tables.table(rows, pinned))
    console.print("\n".join(said))


def _left(work: Sequence[Task], methods: Sequence[Method], found: Results) -> Iterator[tuple[Task, Method]]:
    """What is still to be done, with a progress bar; every method has its turn on a task before the next one."""
    from rich.console import Console
    from rich.progress import track

    left = [(task, how) for task in work for how in methods if not found.has(task, how)]
    console = Console(stderr=True)
    for task, how in track(left, "measuring", console=console, disable=not console.is_terminal):
        if how.label not in found.failures:
            yield task, how
