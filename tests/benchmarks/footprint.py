"""What a smaller bank costs in spread: python tests/benchmarks/footprint.py --photos 2 --model kontext-nano

The contextual tokens of finished candidates are kept in fewer numbers and brought back when they are needed. Six edits
in batches of two, and four more after six that were made at once, of the open requests on crops of the held-out
photographs; printed are bytes a candidate, the different right answers of 6 and of 10 with 95 % intervals, and the
share right. --trials FILE holds what is done, one line each; run it again to go on. --folder of other photographs, as
for `bench spread`.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from ctxrep_plugins.bench.tasks import Task, tasks
from ctxrep_plugins.nano.world import photos
from ctxrep_plugins.nano.world.judge import Judge
from steering import interval
from torch import Tensor

from ctxrep_edit import Bank, EditSet, diverse_edit, load_pipeline, to_tensor

Way = Callable[[Tensor], Tensor]
"""What becomes of one candidate's tokens at one place, (tokens, dim), when they are kept and brought back."""


def rounded(dtype: torch.dtype) -> Way:
    return lambda tokens: tokens.to(dtype).to(tokens.dtype)


def pooled(many: int) -> Way:
    """Neighbours in order as their mean."""

    def pool(tokens: Tensor) -> Tensor:
        groups = tokens.split(many)
        return torch.cat([group.mean(0, keepdim=True).expand_as(group) for group in groups])

    return pool


def low_rank(share: float) -> Way:
    def reduce(tokens: Tensor) -> Tensor:
        rank = max(1, int(share * tokens.numel() / sum(tokens.shape)))  # two factors take rank * (tokens + dim)
        u, s, v = torch.linalg.svd(tokens.float(), full_matrices=False)
        return ((u[:, :rank] * s[:rank]) @ v[:rank]).to(tokens.dtype)

    return reduce


def projected(share: float) -> Way:
    """On random directions of the channels, the same for all."""

    def project(tokens: Tensor) -> Tensor:
        dim = tokens.shape[1]
        random = torch.randn(dim, max(1, round(share * dim)), generator=torch.Generator().manual_seed(0))
        axes = torch.linalg.qr(random).Q.to(tokens.dtype)  # (dim, kept)
        return tokens @ axes @ axes.T

    return project


WAYS: dict[str, tuple[float, Way, int]] = {  # share of the bytes, what it does, and every how many-th block is kept
    "as it is": (1.0, lambda tokens: tokens, 1),
    "bfloat16": (0.5, rounded(torch.bfloat16), 1),
    "every second block": (0.5, lambda tokens: tokens, 2),
    "two tokens as one": (0.5, pooled(2), 1),
    "four tokens as one": (0.25, pooled(4), 1),
    "rank of a quarter": (0.25, low_rank(0.25), 1),
    "half of the channels, at random": (0.5, projected(0.5), 1),
}


@contextmanager
def kept_as(way: Way, every: int) -> Iterator[None]:
    """Banks that keep tokens that way, and repel from kept candidates after every so-many-th block alone."""
    stored, repel = Bank._stored, Bank.repel

    def less(bank: Bank, place: Any, parts: Any, **options: Any) -> Any:
        if place[2] % every == 0:
            return repel(bank, place, parts, **options)
        kept, bank.kept = bank.kept, {}
        try:
            return repel(bank, place, parts, **options)
        finally:
            bank.kept = kept

    with (
        patch.object(Bank, "_stored", lambda bank, tokens: stored(bank, way(tokens))),
        patch.object(Bank, "repel", less),
    ):
        yield


def answers(edits: EditSet, judge: Judge, task: Task) -> list[int | None]:
    """The right answer that each edit is; None of a wrong one."""
    rulings = [judge(to_tensor(image)[0]) for image in edits.images]
    return [r.answer if r.right and r.answer in task.request.answers else None for r in rulings]


def measured(pipeline: Any, task: Task, done: set[str]) -> Iterator[dict[str, Any]]:
    judge, six = Judge(task.request.edit, task.picture, pipeline), None
    shared = {"pipeline": pipeline, "preserve": "off", "progress": False, "seed": task.seed, "bank": "memory"}
    asked = task.picture, task.request.text, 6
    for name, (share, way, every) in WAYS.items():
        if name in done:
            continue
        six = six or diverse_edit(*asked, **shared)
        known = [
            replace(edit, trace=replace(edit.trace, memory={at: way(x) for at, x in edit.trace.memory.items()}))
            for edit in six
        ]
        with kept_as(way, every):
            more = six.more(4, unlike=known, progress=False)
            twos = diverse_edit(*asked, batch_size=2, **shared)
        ten = answers(six, judge, task) + answers(more, judge, task)
        yield {
            "way": name, "task": f"{task.photo} {task.request.edit.name}", "bytes": share * six[0].trace.nbytes,
            "twos": answers(twos, judge, task), "ten": ten,
        }  # fmt: skip


def told(rows: list[dict[str, Any]], name: str) -> str:
    """Different right answers, with the 95 % interval by bootstrap over requests, and the share right."""
    different = [len({tuple(answer) for answer in row[name] if answer is not None}) for row in rows]
    right = np.mean([answer is not None for row in rows for answer in row[name]])
    return f"{interval(different, 2)} at {right:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="kontext-nano")
    parser.add_argument("--photos", type=int, default=2)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="photographs [those held out of training]")
    parser.add_argument("--trials", type=Path, default=Path("footprint.jsonl"))
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in arguments.trials.read_text().splitlines()] if arguments.trials.exists() else []
    pictures = photos.held_out() if arguments.folder is None else photos.read_folder(arguments.folder)
    pipeline = load_pipeline(arguments.model, progress=False)
    with arguments.trials.open("a") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for task in tasks(pictures, arguments.photos, 0, arguments.first):
            if task.request.pins:
                continue
            here = f"{task.photo} {task.request.edit.name}"
            for row in measured(pipeline, task, {row["way"] for row in rows if row["task"] == here}):
                rows.append(row)
                file.write(json.dumps(row) + "\n")
                file.flush()
    print(f"{len({row['task'] for row in rows})} requests\n")
    print("| kept | kB a candidate | different right of 6, in twos | of 6 and 4 more |\n|---|---|---|---|")
    for name in WAYS:
        own = [row for row in rows if row["way"] == name]
        if own:
            size = np.mean([row["bytes"] for row in own]) / 1e3
            print(f"| {name} | {size:.0f} | {told(own, 'twos')} | {told(own, 'ten')} |")


if __name__ == "__main__":
    main()
