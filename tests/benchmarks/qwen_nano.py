"""Right answers of qwen-nano on test photographs, as `ctxrep-edit bench spread` counts them, in a quarter of the time.

    python tests/benchmarks/qwen_nano.py --photos 4 --trials FILE

The outer levels of the autoencoder are left out, and what AlexNet sees in a megapixel. Printed are different right
answers of 6, the share right and the share that respects pinned words, with 95 % intervals by bootstrap over crops.
--trials: every set's figures are kept there, and it goes on from them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ctxrep_plugins.bench.spread.methods import method
from ctxrep_plugins.bench.tasks import sizes_of, tasks
from ctxrep_plugins.nano.world.photos import held_out

from ctxrep_edit import load_pipeline

sys.path.insert(0, str(Path(__file__).parents[1]))

from megapixel import figures, quick
from steering import interval

METHODS = ("plain", "contextual", "contextual*1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=4)
    parser.add_argument("--trials", type=Path)
    asked = parser.parse_args()
    rows = list(measured(asked.photos, asked.trials))
    for pinned in (False, True):
        for name in METHODS:
            mine = [row for row in rows if (row["method"], row["pinned"]) == (name, pinned)]
            crops = [[row for row in mine if row["photo"] == photo] for photo in range(asked.photos)]
            cells = [
                interval([np.mean([row[key] for row in crop]) for crop in crops])
                for key in ("distinct", "right", "held")
            ]
            print(f"| {'pinned' if pinned else 'open'} | {name} | {' | '.join(cells)} |")


def measured(photos: int, file: Path | None) -> Iterator[dict[str, Any]]:
    """The figures of each set, all methods on a task before the next one."""
    pipeline = quick(load_pipeline("qwen-nano", device="cpu", progress=False))
    done = [json.loads(line) for line in file.read_text().splitlines()] if file and file.exists() else []
    known = {(row["photo"], row["edit"], row["pinned"], row["method"]): row for row in done}
    for task in tasks(held_out(), photos, 0, sizes=sizes_of(pipeline)):
        for name in METHODS:
            row = known.get((*task.key, name))
            if row is None:
                row = figures(pipeline, task, method(name, pipeline, {})) | {"method": name}
                if file:
                    with file.open("a") as stream:
                        stream.write(json.dumps(row) + "\n")
            yield row


if __name__ == "__main__":
    main()
