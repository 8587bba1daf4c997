"""Counts different right answers, and wrong ones, on photographs for which the truth is known."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ctxrep_plugins.bench.spread.methods import Method
from ctxrep_plugins.bench.tasks import Task, strictly
from ctxrep_plugins.nano.world.judge import Judge, of_the_world
from PIL import Image

from ctxrep_edit import DEFAULT_CHECKS, EditSet, adapter_for, diverse_edit, lpips_maps, to_tensor


@dataclass(frozen=True)
class Trial:
    """One set of edits of one photograph: what was asked, and what the judge and the meters say."""

    method: str
    photo: int
    edit: str
    pinned: bool
    distinct: int  # right answers that differ
    entropy: float  # of the right answers, in nats: 0 if all are one, ln n if all differ
    right: float  # share
    held: float  # share of edits whose nearest answer respects the pinned words
    typical: float  # share of the right edits that are the typical answer
    lpips_outside: float  # nan for an edit of the whole picture
    psnr_outside: float  # dB, the same
    vendi: float  # over AlexNet features
    different: int  # nearest answers that differ, right or not
    counted: int  # as `EditSet.distinct` sees it
    seconds: float
    evaluations: float  # rows that the transformer was given

    @property
    def key(self) -> tuple[int, str, bool]:
        return self.photo, self.edit, self.pinned


def run(pipeline: Any, task: Task, how: Method, n: int, steps: int | None = None) -> Trial:
    """One task with one method; the seeds are the task's, whatever the method is. steps: of the sampler."""
    with strictly(), _counted(pipeline) as counter:
        edits = diverse_edit(
            task.picture,
            task.request.text,
            n,
            pipeline=pipeline,
            strategy=how.strategy,
            strength="auto" if how.strength is None else how.strength,
            repulsion=how.repulsion,
            seed=task.seed,
            steps=steps,
            batch_size=min(n, how.batch or n),
            bank="off",
            preserve=DEFAULT_CHECKS if how.again else "off",
            distinct="retry" if how.again else "count",
            progress=False,
        )
    return _score(task, how, edits, pipeline, float(counter["rows"]))


@contextmanager
def _counted(pipeline: Any) -> Iterator[Counter[str]]:
    """Counts the rows that the transformer computes: what it is given at last, as strategies may leave out some."""
    counter: Counter[str] = Counter()
    transformer = adapter_for(pipeline).transformer(pipeline)
    forward = transformer.forward
    before = {"forward": forward} if "forward" in vars(transformer) else {}

    def counted(*args: Any, **call: Any) -> Any:
        counter["rows"] += len(call["hidden_states"])
        return forward(*args, **call)

    transformer.forward = counted
    try:
        yield counter
    finally:
        del transformer.forward
        vars(transformer).update(before)


def _score(task: Task, how: Method, edits: EditSet, pipeline: Any, evaluations: float) -> Trial:
    judge = Judge(task.request.edit, task.picture, pipeline)
    images = of_the_world(torch.cat([to_tensor(image) for image in edits.images]))  # (n, 3, h, w)
    rulings = [judge(image) for image in images]
    admitted = task.request.answers
    right = Counter(r.answer for r in rulings if r.right and r.answer in admitted)
    shares = np.array(list(right.values())) / max(1, right.total())
    source = to_tensor(Image.fromarray((task.picture * 255).round().astype(np.uint8)))
    regions = torch.stack([ruling.region for ruling in rulings])  # (n, h, w)
    maps = lpips_maps(torch.where(regions[:, None], source, images), source)  # (n, h, w), the edit itself left out
    errors = (images - source).square().mean(1)  # (n, h, w)
    outside = [~region for region in regions]
    return Trial(
        method=how.label,
        photo=task.photo,
        edit=task.request.edit.name,
        pinned=bool(task.request.pins),
        distinct=len(right),
        entropy=float(-(shares * np.log(shares)).sum()) if len(shares) else float("nan"),
        right=right.total() / len(rulings),
        held=sum(r.answer in admitted for r in rulings) / len(rulings),
        typical=right[admitted[0]] / right.total() if right else float("nan"),
        lpips_outside=mean([m[o].mean().item() for m, o in zip(maps, outside, strict=True) if o.any()]),
        psnr_outside=mean([_psnr(e[o].mean().item()) for e, o in zip(errors, outside, strict=True) if o.any()]),
        vendi=edits.vendi,
        different=len({ruling.answer for ruling in rulings}),
        counted=edits.distinct,
        seconds=edits.seconds,
        evaluations=evaluations,
    )


def _psnr(error: float) -> float:
    return -10 * math.log10(max(error, 1e-10))


def mean(values: Sequence[float] | np.ndarray) -> float:
    """Of those that are finite; nan where none is."""
    finite = np.asarray(values, float)
    finite = finite[np.isfinite(finite)]
    return float(finite.mean()) if len(finite) else float("nan")
