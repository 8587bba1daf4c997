"""What is asked on the bench: crops of photographs, and requests whose right answers are known."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def tasks(
    pictures: Sequence[np.ndarray],
    count: int,
    seed: int,
    first: int = 0,
    sizes: Sequence[tuple[int, int]] = photos.BUCKETS,
) -> Iterable[Task]:
    """`count` crops from number `first` on, in `sizes` by turns, each with an open and a pinned request of every
    edit."""
    for photo in range(first, first + count):
        rng = np.random.default_rng([seed, photo])
        picture = photos.crop([pictures[photo % len(pictures)]], sizes[photo % len(sizes)], rng)
        picture = np.asarray(np.round(picture * 255) / 255, np.float32)  # as a file would hold it
        for edit in world.EDITS:
            for pinned in (False, True):
                choices = list(world.requests(edit, pinned))
                yield Task(photo, picture, choices[rng.integers(len(choices))], int(rng.integers(2**31)))


def sizes_of(pipeline: Any) -> Sequence[tuple[int, int]]:
    """Sizes of the world, (height, width), in whose aspect the model of `pipeline` edits, pixel for pixel or with
    squares for pixels, as its `ctxrep.json` says; all where it says nothing of them."""
    profile = Path(pipeline.config.get("_name_or_path") or "") / "ctxrep.json"
    stated = json.loads(profile.read_text("utf-8")).get("sizes", ()) if profile.is_file() else ()
    known = ((h, w) for h, w in photos.BUCKETS if any(h * wide == w * high for wide, high in stated))
    return tuple(known) or photos.BUCKETS


@contextmanager
def strictly() -> Iterator[None]:
    """In it a warning is an error, as no figure would tell of it; but not that of a model that nobody calibrated."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", Uncalibrated)
        yield
