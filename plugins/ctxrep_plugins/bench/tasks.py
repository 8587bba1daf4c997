"""What is asked on the bench: crops of photographs, and requests whose right answers are known."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from ctxrep_plugins.nano import world
from ctxrep_plugins.nano.world import photos

from ctxrep_edit import Uncalibrated


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


@contextmanager
def strictly() -> Iterator[None]:
    """In it a warning is an error, as no figure would tell of it; but not that of a model that nobody calibrated."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", Uncalibrated)
        yield
