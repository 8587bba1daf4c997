"""Counts different right answers, and wrong ones, on photographs for which the truth is known."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from ctxrep_plugins.nano import world
from ctxrep_plugins.nano.world import photos
from ctxrep_plugins.nano.world.judge import Judge
from PIL import Image

from ctxrep_edit import (
    STRATEGIES,
    InputError,
    Repulsion,
    adapter_for,
    default_settings,
    diverse_edit,
    lpips_maps,
    to_tensor,
)

SWEEP: dict[str, tuple[float, ...]] = {  # strengths to try of each method, from little effect to too much
    "contextual": (0.3, 1.0, 3.0),
    "prompt-noise": (3.0, 10.0, 30.0),
    "cads": (0.1, 0.3, 1.0),
    "particle-guidance": (2.0, 5.0, 10.0),
    "sparke": (0.03, 0.06, 0.12),
    "dave": (0.3, 0.6, 1.0),
    "group-inference": (1.0, 10.0),
}


@dataclass(frozen=True)
class Method:
    """One row of the table. strength: None is the strategy's own. repulsion: for `contextual`, all its settings."""

    strategy: str
    strength: float | None = None
    repulsion: Repulsion | None = None

    @property
    def name(self) -> str:
        """Of the method without its strength; one curve in the plot."""
        if self.strength == 0:
            return "plain"
        scope = self.repulsion.scope if self.repulsion else None
        return f"{self.strategy}/{scope}" if scope else self.strategy

    @property
    def label(self) -> str:
        return self.name if self.strength is None or self.name == "plain" else f"{self.name}:{self.strength:g}"


PLAIN = Method("contextual", 0.0)


def method(text: str, pipeline: Any, changes: dict[str, Any]) -> Method:
    """From "plain", "cads", "cads:0.5", "contextual/paper:2". changes: of the settings of contextual repulsion.

    Raises InputError.
    """
    name, _, number = text.partition(":")
    strategy, _, scope = name.partition("/")
    if name == "plain":
        return PLAIN
    try:
        strength = float(number) if number else None
    except ValueError:
        raise InputError(f"The method {text!r} has the strength {number!r}: give a number, as in cads:0.5.") from None
    repels = STRATEGIES.get(strategy).repels
    if not repels and scope:
        raise InputError(f"The method {text!r} names a scope, but {strategy} has none: leave /{scope} out.")
    changes = {**changes, **({"scope": scope} if scope else {})}
    return Method(strategy, strength, replace(default_settings(pipeline), **changes) if repels and changes else None)


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
    seconds: float
    evaluations: float  # rows that the transformer was given

    @property
    def key(self) -> tuple[int, str, bool]:
        return self.photo, self.edit, self.pinned


@dataclass(frozen=True)
class Task:
    """A crop, float32 (h, w, 3) in [0, 1], and what to ask of it."""

    photo: int
    picture: world.Picture
    request: world.Request
    seed: int

    @property
    def key(self) -> tuple[int, str, bool]:
        return self.photo, self.request.edit.name, bool(self.request.pins)


def tasks(pictures: Sequence[np.ndarray], count: int, seed: int, first: int = 0) -> Iterable[Task]:
    """`count` crops from number `first` on, each with an open and a pinned request of every edit."""
    for photo in range(first, first + count):
        rng = np.random.default_rng([seed, photo])
        picture = photos.crop([pictures[photo % len(pictures)]], photos.BUCKETS[photo % len(photos.BUCKETS)], rng)
        picture = np.asarray(np.round(picture * 255) / 255, np.float32)  # as a file would hold it
        for edit in world.EDITS:
            for pinned in (False, True):
                choices = list(world.requests(edit, pinned))
                yield Task(photo, picture, choices[rng.integers(len(choices))], int(rng.integers(2**31)))


def run(pipeline: Any, task: Task, how: Method, n: int) -> Trial:
    """One task with one method; the seeds are the task's, whatever the method is."""
    with warnings.catch_warnings(), _counted(pipeline) as counter:
        warnings.simplefilter("error")
        edits = diverse_edit(
            task.picture,
            task.request.text,
            n,
            pipeline=pipeline,
            strategy=how.strategy,
            strength="auto" if how.strength is None else how.strength,
            repulsion=how.repulsion,
            seed=task.seed,
            preserve="off",
            progress=False,
        )
    return _score(task, how, edits, pipeline, float(counter["rows"]))


@contextmanager
def _counted(pipeline: Any) -> Any:
    """Counts the rows that the transformer is given."""
    counter: Counter[str] = Counter()

    def count(module: Any, args: Any, call: dict[str, Any]) -> None:
        counter["rows"] += len(call["hidden_states"])

    transformer = adapter_for(pipeline).transformer(pipeline)
    handle = transformer.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield counter
    finally:
        handle.remove()


def _score(task: Task, how: Method, edits: Any, pipeline: Any, evaluations: float) -> Trial:
    judge = Judge(task.request.edit, task.picture, pipeline)
    images = torch.cat([to_tensor(image) for image in edits.images])  # (n, 3, h, w)
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
        lpips_outside=_mean([m[o].mean().item() for m, o in zip(maps, outside, strict=True) if o.any()]),
        psnr_outside=_mean([_psnr(e[o].mean().item()) for e, o in zip(errors, outside, strict=True) if o.any()]),
        vendi=edits.vendi,
        seconds=edits.seconds,
        evaluations=evaluations,
    )


def _psnr(error: float) -> float:
    return -10 * math.log10(max(error, 1e-10))


FIGURES = ("distinct", "entropy", "right", "held", "typical", "lpips_outside", "psnr_outside", "vendi", "seconds")
COSTS = {"time": "seconds", "evaluations": "evaluations"}  # relative to plain sampling of the same task


def summary(
    trials: Sequence[Trial], plain: Mapping[tuple[int, str, bool], Trial], seed: int = 0
) -> dict[str, tuple[float, float, float]]:
    """Mean and 95 % interval of each figure, by bootstrap over photographs.

    Costs are the sum over a photograph divided by that of its plain trials; nan where those were not made.
    """
    rng = np.random.default_rng(seed)
    by_photo = [[t for t in trials if t.photo == p] for p in sorted({t.photo for t in trials})]
    draws = rng.integers(len(by_photo), size=(1000, len(by_photo)))
    columns = {name: [_mean([getattr(t, name) for t in group]) for group in by_photo] for name in FIGURES}
    columns |= {name: [_cost(group, plain, of) for group in by_photo] for name, of in COSTS.items()}
    out = {}
    for name, column in columns.items():
        values = np.array(column)
        means = np.array([_mean(values[draw]) for draw in draws])
        low, high = np.nanpercentile(means, [2.5, 97.5]) if np.isfinite(means).any() else (np.nan, np.nan)
        out[name] = (_mean(values), float(low), float(high))
    return out


def _cost(trials: Sequence[Trial], plain: Mapping[tuple[int, str, bool], Trial], of: str) -> float:
    pairs = [(getattr(t, of), getattr(plain[t.key], of)) for t in trials if t.key in plain]
    return sum(a for a, _ in pairs) / sum(b for _, b in pairs) if pairs else float("nan")


def _mean(values: Sequence[float] | np.ndarray) -> float:
    finite = np.asarray(values, float)
    finite = finite[np.isfinite(finite)]
    return float(finite.mean()) if len(finite) else float("nan")
