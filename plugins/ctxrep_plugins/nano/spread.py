"""Counts different right answers, and wrong ones, on photographs for which the truth is known."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ctxrep_plugins.nano import photos, world
from ctxrep_plugins.nano.judge import Judge
from PIL import Image

from ctxrep_edit.api import diverse_edit
from ctxrep_edit.imaging import to_tensor
from ctxrep_edit.perceptual import distances
from ctxrep_edit.settings import Repulsion


@dataclass(frozen=True)
class Trial:
    """One set of edits of one photograph: what was asked, and what the judge and the meters say."""

    photo: int
    edit: str
    pinned: bool
    distinct: int  # right answers that differ
    right: float  # share
    held: float  # share of edits whose nearest answer respects the pinned words
    typical: float  # share of the right edits that are the typical answer
    lpips_outside: float  # nan for an edit of the whole picture
    vendi: float
    seconds: float


@dataclass(frozen=True)
class Task:
    """A crop, float32 (h, w, 3) in [0, 1], and what to ask of it."""

    photo: int
    picture: world.Picture
    request: world.Request
    seed: int


def tasks(pictures: Sequence[np.ndarray], count: int, seed: int, wordings: int = 1) -> Iterable[Task]:
    """`count` crops, each with `wordings` open and as many pinned requests of every edit."""
    for photo in range(count):
        rng = np.random.default_rng([seed, photo])
        picture = photos.crop([pictures[photo % len(pictures)]], photos.BUCKETS[photo % len(photos.BUCKETS)], rng)
        picture = np.asarray(np.round(picture * 255) / 255, np.float32)  # as a file would hold it
        for edit in world.EDITS:
            for pinned in (False, True):
                choices = list(world.requests(edit, pinned))
                for _ in range(wordings):
                    yield Task(photo, picture, choices[rng.integers(len(choices))], int(rng.integers(2**31)))


def run(pipeline: Any, work: Iterable[Task], repulsion: Repulsion, n: int) -> list[Trial]:
    """Every task once with `repulsion`; the same seeds whatever it is."""
    trials = []
    for task in work:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            edits = diverse_edit(
                task.picture,
                task.request.text,
                n,
                pipeline=pipeline,
                repulsion=repulsion,
                seed=task.seed,
                preserve="off",
                progress=False,
            )
        trials.append(_score(task, edits, pipeline))
    return trials


def _score(task: Task, edits: Any, pipeline: Any) -> Trial:
    judge = Judge(task.request.edit, task.picture, pipeline)
    images = torch.cat([to_tensor(image) for image in edits.images])  # (n, 3, h, w)
    rulings = [judge(image) for image in images]
    admitted = task.request.answers
    right = [r.answer for r in rulings if r.right and r.answer in admitted]
    source = to_tensor(Image.fromarray((task.picture * 255).round().astype(np.uint8)))
    regions = torch.stack([ruling.region for ruling in rulings])  # (n, h, w)
    maps = distances(torch.where(regions[:, None], source, images), source)  # (n, h, w), the edit itself left out
    outside = [m[~r].mean().item() for m, r in zip(maps, regions, strict=True) if not r.all()]
    return Trial(
        photo=task.photo,
        edit=task.request.edit.name,
        pinned=bool(task.request.pins),
        distinct=len(set(right)),
        right=len(right) / len(rulings),
        held=sum(r.answer in admitted for r in rulings) / len(rulings),
        typical=sum(a == admitted[0] for a in right) / len(right) if right else float("nan"),
        lpips_outside=float(np.mean(outside)) if outside else float("nan"),
        vendi=edits.vendi,
        seconds=edits.seconds,
    )


FIGURES = ("distinct", "right", "held", "typical", "lpips_outside", "vendi", "seconds")


def summary(trials: Sequence[Trial], seed: int = 0) -> dict[str, tuple[float, float, float]]:
    """Mean and 95 % interval of each figure, by bootstrap over photographs."""
    rng = np.random.default_rng(seed)
    by_photo = [[t for t in trials if t.photo == p] for p in sorted({t.photo for t in trials})]
    draws = rng.integers(len(by_photo), size=(1000, len(by_photo)))
    out = {}
    for name in FIGURES:
        values = np.array([_mean([getattr(t, name) for t in group]) for group in by_photo])
        means = np.array([_mean(values[draw]) for draw in draws])
        low, high = np.nanpercentile(means, [2.5, 97.5]) if np.isfinite(means).any() else (np.nan, np.nan)
        out[name] = (_mean(values), float(low), float(high))
    return out


def _mean(values: Sequence[float] | np.ndarray) -> float:
    finite = np.asarray(values, float)
    finite = finite[np.isfinite(finite)]
    return float(finite.mean()) if len(finite) else float("nan")
