"""Does repelling from a picture that nobody's run made work? python tests/benchmarks/unlike.py --photos 1

Of each open request on crops of the held-out photographs, the typical right answer is rendered exactly. Single
edits are then made plain, unlike that picture, and unlike an edit of the model's own that is that answer, by the
tokens it left. Printed are the share that equals the answer, with its 95 % interval, and the share right.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
from ctxrep_plugins.bench.tasks import Task, tasks
from ctxrep_plugins.nano import world
from ctxrep_plugins.nano.world import photos
from ctxrep_plugins.nano.world.judge import Judge
from scipy.stats import binomtest

from ctxrep_edit import Edit, diverse_edit, load_pipeline, to_tensor

TRIES = 4  # own edits among which one is looked for that is the typical answer


def made(pipeline: Any, task: Task, seed: int, **options: Any) -> Edit:
    asked = {"pipeline": pipeline, "preserve": "off", "progress": False, "oversample": 1, **options}
    return diverse_edit(task.picture, task.request.text, 1, seed=seed, **asked)[0]


def measured(pipeline: Any, task: Task, times: int) -> Iterator[tuple[str, bool, bool]]:
    """What it was unlike, whether it is the typical answer, and whether it is right."""
    edit, judge = task.request.edit, Judge(task.request.edit, task.picture, pipeline)
    typical = edit.answers[0]
    rendered = np.asarray(world.render(edit, task.picture, typical), np.float32)
    unlike: dict[str, Any] = {"nothing (plain)": [], "the picture": [rendered]}
    for i in range(TRIES):
        own = made(pipeline, task, task.seed + 77 + i, bank="memory")
        if judge(to_tensor(own.image)[0]).answer == typical:
            unlike["an own edit"] = [own]
            break
    for i in range(times):
        for name, others in unlike.items():
            ruling = judge(to_tensor(made(pipeline, task, task.seed + 1000 + i, unlike=others, bank="off").image)[0])
            yield name, ruling.answer == typical, ruling.right


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="kontext-nano")
    parser.add_argument("--photos", type=int, default=1)
    parser.add_argument("--times", type=int, default=5, help="edits of each kind and request")
    arguments = parser.parse_args()
    pipeline, found = load_pipeline(arguments.model, progress=False), defaultdict(list)
    for task in tasks(photos.held_out(), arguments.photos, 5):
        for name, *said in measured(pipeline, task, arguments.times) if not task.request.pins else ():
            found[name].append(said)
    print("| unlike | edits | equal the picture's answer | right |\n|---|---|---|---|")
    for name, said in found.items():
        same, right = np.array(said).T
        ends = binomtest(int(same.sum()), len(same)).proportion_ci(method="wilson")
        print(f"| {name} | {len(same)} | {same.mean():.2f} ({ends.low:.2f} to {ends.high:.2f}) | {right.mean():.2f} |")


if __name__ == "__main__":
    main()
