"""Does a model show, in its first step and before anything is pushed, whether the words leave something open?

    python tests/benchmarks/openness.py --folder PHOTOGRAPHS --photos 6 --model kontext-nano --model sd3-nano

Six particles of one instruction differ by their noise alone, in all directions alike, or by the answers that they lean
to as well, in few directions. So the share that one direction has of all that they differ in tells the two apart. It is
taken of the image tokens' means after each block, and of the clean pictures that the velocities point at. Printed is
how often it is larger for an instruction with five or more right answers than for one with a single one, with a 95 %
interval by bootstrap over crops.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from ctxrep_plugins.bench.tasks import Task, tasks
from ctxrep_plugins.nano.world.photos import held_out, read_folder
from torch import Tensor

from ctxrep_edit import adapter_for, diverse_edit, load_pipeline

N = 6
SEED = 41
OPEN = 5  # right answers, at least


class Seen(Exception):
    """The first step was seen, so that nothing more need be made."""


def share(of_particles: Tensor) -> float:
    """That of one direction, of all that n particles differ in: 1 / (n - 1) to 1. of_particles: (n, ...)."""
    flat = of_particles.flatten(1).double()
    flat = flat - flat.mean(0)
    values = torch.linalg.eigvalsh(flat @ flat.T)  # (n,)
    return float(values[-1] / values.sum())


class Watch:
    """Notes the shares in the first step of a pipeline, and ends the run there."""

    def __init__(self, pipeline: Any) -> None:
        self.adapter = adapter_for(pipeline)
        self.shares: dict[str, float] = {}
        transformer = self.adapter.transformer(pipeline)
        blocks = [
            (order, block) for name, order in self.adapter.streams.items() for block in getattr(transformer, name)
        ]
        transformer.register_forward_pre_hook(self.begin, with_kwargs=True)
        transformer.register_forward_hook(self.end, with_kwargs=True)
        for number, (order, block) in enumerate(blocks):
            place = f"block {number + 1} of {len(blocks)}"
            block.register_forward_hook(functools.partial(self.block, place, order.index("image")))

    def begin(self, module: Any, args: Any, call: dict[str, Any]) -> None:
        made = self.adapter.generated(call)
        self.made = slice(made if isinstance(made, int) else None)

    def block(self, place: str, at: int, module: Any, args: Any, output: Any) -> None:
        self.shares[place] = share(output[at][:, self.made].mean(1))

    def end(self, module: Any, args: Any, call: dict[str, Any], output: Any) -> None:
        latents, velocity = self.adapter.latents(call), output[0]
        if latents.ndim == 4:  # the source's channels beside the noisy ones
            latents = latents[:, : velocity.shape[1]]
        self.shares["clean picture"] = share((latents - velocity)[:, self.made])  # at first all is noise
        raise Seen


def shares(pipeline: Any, watch: Watch, task: Task) -> dict[str, float]:
    with contextlib.suppress(Seen):
        diverse_edit(
            task.picture, task.request.text, N, pipeline=pipeline, strength=0, seed=task.seed, bank="off",
            preserve="off", progress=False,
        )  # fmt: skip
    return dict(watch.shares)


def often(found: Sequence[tuple[Task, dict[str, float]]], place: str) -> float:
    """How often the share at a place is larger where the instruction is open than where it has one right answer."""
    answers = np.array([len(task.request.answers) for task, _ in found])
    values = np.array([seen[place] for _, seen in found])
    return float((values[answers >= OPEN][:, None] > values[answers == 1]).mean())


@click.command()
@click.option("--folder", type=click.Path(exists=True, path_type=Path), help="Photographs instead of scikit-image's.")
@click.option("--photos", type=click.IntRange(2), default=6, show_default=True)
@click.option("--model", "models", multiple=True, default=["kontext-nano"], show_default=True)
def main(folder: Path | None, photos: int, models: Sequence[str]) -> None:
    pictures = read_folder(folder) if folder else held_out()
    for model in models:
        pipeline = load_pipeline(model, progress=False)
        watch = Watch(pipeline)
        found = [(task, shares(pipeline, watch, task)) for task in tasks(pictures, photos, SEED)]
        print(model)
        draws = [np.arange(photos), *np.random.default_rng(0).integers(photos, size=(1000, photos))]
        for place in found[0][1]:
            values = [
                often([pair for crop in crops for pair in found if pair[0].photo == crop], place) for crops in draws
            ]
            low, high = np.quantile(values[1:], [0.025, 0.975])
            print(f"  {place:15} {values[0]:.2f} [{low:.2f}, {high:.2f}]")


if __name__ == "__main__":
    main()
