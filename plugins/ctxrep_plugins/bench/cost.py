"""What repulsion costs: plain and repelled sampling in turn, compared pair by pair."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ctxrep_edit import ImageLike


@dataclass(frozen=True)
class Pair:
    """Sampling times in seconds of one plain and one repelled set from the same seed."""

    plain: float
    repelled: float

    @property
    def ratio(self) -> float:
        return self.repelled / self.plain


def pairs(image: ImageLike, instruction: str, n: int, count: int, **options: Any) -> Iterator[Pair]:
    """`count` pairs after one that is not counted; which of the two runs first alternates.

    options: as `diverse_edit` takes them; the check is off, as it is the same for both.
    """
    from ctxrep_edit import diverse_edit

    shared = {"preserve": "off", "progress": False, **options}
    repelled = shared.pop("strength", "auto")
    for i in range(count + 1):
        order = [("plain", 0.0), ("repelled", repelled)][:: -1 if i % 2 else 1]
        times = {
            name: diverse_edit(image, instruction, n, strength=strength, seed=i, **shared).seconds
            for name, strength in order
        }
        if i:
            yield Pair(**times)


def summary(measured: list[Pair]) -> dict[str, float]:
    """Medians over the pairs, the ratio's quartiles among them."""
    ratios = sorted(pair.ratio for pair in measured)
    low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    return {
        "plain": statistics.median(pair.plain for pair in measured),
        "repelled": statistics.median(pair.repelled for pair in measured),
        "ratio": middle,
        "ratio_low": low,
        "ratio_high": high,
    }


@click.command()
@click.option("--image", type=click.Path(path_type=Path), help="Picture to edit.  [default: one of scikit-image's]")
@click.option("--instruction", default="change the light", show_default=True)
@click.option("-n", "n", type=click.IntRange(1), default=6, show_default=True, help="Edits per set.")
@click.option("--pairs", "count", type=click.IntRange(1), default=12, show_default=True, help="Pairs of runs.")
@click.option("--model", help="Embedded model, local pipeline folder, or hub id.  [default: kontext-nano]")
@click.option("--scope", help="Which tokens repel.  [default: the model's]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def cost(image: Path | None, instruction: str, n: int, count: int, as_json: bool, **options: Any) -> None:
    """Time of repelled over plain sampling, in turn, as a ratio pair by pair."""
    import skimage.data

    from ctxrep_edit import encode_json

    found = summary(list(pairs(image or skimage.data.astronaut(), instruction, n, count, **options)))
    if as_json:
        click.echo(encode_json({"n": n, "pairs": count, **found}, None))
        return
    click.echo(
        f"plain {found['plain']:.3f} s, repelled {found['repelled']:.3f} s; ratio {found['ratio']:.3f} "
        f"(quartiles {found['ratio_low']:.3f} to {found['ratio_high']:.3f}, {count} pairs, n = {n})"
    )
