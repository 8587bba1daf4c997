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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="kontext-nano")
    parser.add_argument("--device")
    parser.add_argument("--repeat", type=int, default=5, help="sets of each shape [5: one of each instruction]")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        made = Measured(asked.model, asked.device, Path(place))
        made.set(99, n=2, steps=2)  # what the first set alone takes
        equations, seconds, pooled = [], [], 0.0
        for n, steps in ((3, 4), (8, 4), (8, 12)):
            for seed in range(asked.repeat):
                made.rows = 0
                _, took = made.set(seed, n=n, steps=steps)
                equations.append([made.rows, n, 1])
                seconds.append(took)
            pooled = made.rows / n - steps
            print(f"n = {n}, steps = {steps}: {np.mean(seconds[-asked.repeat :]):.2f} s a set, {pooled:g} steps pooled")
        (step, each, fixed), *_ = np.linalg.lstsq(np.array(equations, float), np.array(seconds), rcond=None)
        print(f"step = {step:.4f} s, each = {each:.3f} s, fixed = {fixed:.3f} s")
        for n, policy in ((4, "flag"), (6, "flag"), (6, "retry")):
            sets = [made.set(50 + seed, n=n, steps=12, on_unfaithful=policy) for seed in range(asked.repeat)]
            again = np.mean([sum(map(len, edits.recipe.get("remade", ()))) for edits, _ in sets]) / n
            foretold = fixed + (each * n + step * n * (12 + pooled)) * (1 + again)
            took = np.mean([took for _, took in sets])
            print(
                f"n = {n}, steps = 12, {policy}, {again:.2f} made again: foretold {3600 * n / foretold:.0f} edits an "
                f"hour, measured {3600 * n / took:.0f}, {foretold / took - 1:+.1%} of the time"
            )


if __name__ == "__main__":
    main()
