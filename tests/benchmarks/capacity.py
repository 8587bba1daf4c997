"""Whether the capacity sheet holds: OMP_NUM_THREADS=1 python tests/benchmarks/capacity.py

Small sets of a few shapes give the seconds per row and step, per edit and per set; these foretell how many edits of
another shape are made per device-hour, by the formula of docs/deploy.md, and those are made and timed. On a CPU seconds
are of CPU time with one thread, so that what else the machine does counts for little. All sets are read, sampled,
judged and written, as `ctxrep-edit batch` does it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from skimage import data

from ctxrep_edit import EditSet, diverse_edit, load_pipeline

WORDS = ("add a sticker", "add a frame", "change the light", "change the style", "recolour it")


class Measured:
    """Makes sets of a pipeline. rows: that its transformer was given since they were set to 0."""

    def __init__(self, model: str, device: str | None, folder: Path) -> None:
        self.pipeline = load_pipeline(model, device=device, progress=False)
        self.on_cpu = self.pipeline.device.type == "cpu"
        if self.on_cpu:
            torch.set_num_threads(1)
        self.folder, self.rows = folder, 0
        self.photo = folder / "photo.png"
        Image.fromarray(data.astronaut()).save(self.photo)
        first = next(part for part in self.pipeline.transformer.modules() if isinstance(part, torch.nn.Linear))
        first.register_forward_pre_hook(self._count)  # the transformer itself is also shown those that it passes over

    def _count(self, module: Any, args: Any) -> None:
        self.rows += len(args[0])

    def set(self, seed: int, **options: Any) -> tuple[EditSet, float]:
        clock = time.process_time if self.on_cpu else time.perf_counter
        begun, words = clock(), WORDS[seed % len(WORDS)]
        edits = diverse_edit(
            self.photo, words, seed=seed * 1000, pipeline=self.pipeline, bank="off", progress=False, **options
        )
        assert edits.vendi >= 1
        edits.save(self.folder / str(seed))
        return edits, clock() - begun


@dataclass
class Shape:
    """Sets of one shape. rows, seconds: of each; again: candidates made again for each that is wanted, of each."""

    n: int
    steps: int
    rows: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    again: list[float] = field(default_factory=list)

    def drawn(self, dice: np.random.Generator) -> Shape:
        """As many of its sets, drawn with replacement."""
        chosen = dice.integers(len(self.seconds), size=len(self.seconds))
        lists = ([values[i] for i in chosen] for values in (self.rows, self.seconds, self.again))
        return Shape(self.n, self.steps, *lists)


def make(made: Measured, n: int, steps: int, first: int, repeat: int, **options: Any) -> Shape:
    shape = Shape(n, steps)
    for seed in range(first, first + repeat):
        made.rows = 0
        edits, took = made.set(seed, n=n, steps=steps, **options)
        shape.rows.append(made.rows)
        shape.seconds.append(took)
        shape.again.append(sum(map(len, edits.recipe.get("remade", ()))) / n)
        print(f"n = {n}, {steps} steps: {took:.2f} s", flush=True)
    return shape


def fitted(shapes: Sequence[Shape]) -> Any:
    """Seconds of a row and step, of an edit and of a set: (3,)."""
    equations = [[rows, shape.n, 1] for shape in shapes for rows in shape.rows]
    seconds = [took for shape in shapes for took in shape.seconds]
    return np.linalg.lstsq(np.array(equations, float), np.array(seconds), rcond=None)[0]


def foretold(times: Any, shape: Shape, pooled: float) -> float:
    """Seconds of a set, by docs/deploy.md."""
    step, each, fixed = times
    return float(
        fixed + (each * shape.n + step * shape.n * (shape.steps + pooled)) * (1 + np.mean(shape.again))
    )  # fmt: skip


def spread(values: Sequence[float], form: str) -> str:
    """The 95 % interval."""
    return "[{}, {}]".format(*(format(value, form) for value in np.quantile(values, (0.025, 0.975))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="kontext-nano")
    parser.add_argument("--device")
    parser.add_argument("--repeat", type=int, default=10, help="sets of each shape, of five instructions in turn [10]")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        made = Measured(asked.model, asked.device, Path(place))
        made.set(99, n=2, steps=2)  # what the first set alone takes
        known = [make(made, n, steps, 0, asked.repeat) for n, steps in ((3, 4), (8, 4), (8, 12))]
        pooled = known[-1].rows[0] / known[-1].n - known[-1].steps
        tried = [
            make(made, n, 12, 50, asked.repeat, on_unfaithful=policy)
            for n, policy in ((4, "flag"), (6, "flag"), (6, "retry"))
        ]
    dice = np.random.default_rng(0)
    draws = [fitted([shape.drawn(dice) for shape in known]) for _ in range(1000)]
    for name, time_, column in zip(("step", "each", "fixed"), fitted(known), zip(*draws, strict=True), strict=True):
        print(f"{name} = {time_:.4f} s {spread(column, '.4f')}")
    for shape in tried:
        once = [shape.drawn(dice) for _ in draws]
        ratios = [
            foretold(times, drawn, pooled) / np.mean(drawn.seconds) for times, drawn in zip(draws, once, strict=True)
        ]
        measured = [3600 * shape.n / np.mean(drawn.seconds) for drawn in once]
        took, means = np.mean(shape.seconds), foretold(fitted(known), shape, pooled)
        print(
            f"n = {shape.n}, 12 steps, {np.mean(shape.again):.2f} made again: foretold {3600 * shape.n / means:.0f} "
            f"edits an hour, measured {3600 * shape.n / took:.0f} {spread(measured, '.0f')}, foretold time / measured "
            f"{means / took:.2f} {spread(ratios, '.2f')}, of {asked.repeat} sets"
        )


if __name__ == "__main__":
    main()
