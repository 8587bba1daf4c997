"""How many candidates are made at once: as many as fit, by what one of them was measured to take."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import psutil
import torch

from ctxrep_edit.errors import ModelError
from ctxrep_edit.sampling.particles import FLOATS_PER_PIXEL, free_memory

ROOM = 0.8
"""Of the free memory, what a batch may take by what was measured: others allocate too, and blocks are rounded up."""
EVERY = 0.005
"""Seconds between two looks at the memory, of which the highest counts."""
LEAST = 16
"""Numbers per pixel that a candidate takes at least: measured less, it was given memory that lay idle."""

Kind = tuple[tuple[int, int], Any]
_taken: WeakKeyDictionary[Any, dict[Kind, int]] = WeakKeyDictionary()


class Batches:
    """The sizes of the batches of one run. pipeline: that makes them. size: (width, height) of a candidate. asked: by
    the caller, or None. most: what one call of the pipeline can make, or None where any number."""

    def __init__(self, pipeline: Any, size: tuple[int, int], asked: int | None, most: int | None) -> None:
        self.pipeline, self.size, self.asked = pipeline, size, asked
        self._most = min((limit for limit in (asked, most) if limit is not None), default=None)

    def next(self, left: int) -> int:
        """How many of the `left` candidates to make now.

        What one takes is measured with the first batch on a pipeline, which is one candidate alone where `left` of
        them might not fit by FLOATS_PER_PIXEL.
        """
        count = left if self._most is None else min(left, self._most)
        if self.asked is not None:
            return count
        free, taken = free_memory(self.pipeline), self._taken()
        if taken is None:
            might = free // (self.size[0] * self.size[1] * FLOATS_PER_PIXEL * self.pipeline.dtype.itemsize)
            return count if count <= might else 1
        return max(1, min(count, int(free * ROOM / taken)))

    @contextmanager
    def measured(self, count: int) -> Iterator[None]:
        """Notes what a batch of `count` takes, where that is not known yet."""
        if self._taken() is not None:
            yield
            return
        used = _used(self.pipeline)
        before = used()
        with _highest(used) as highest:
            yield
        least = self.size[0] * self.size[1] * LEAST * self.pipeline.dtype.itemsize
        _taken.setdefault(self.pipeline, {})[self._kind] = max(least, (highest[0] - before) // count)

    def halve(self, count: int) -> None:
        """After a batch of `count` ran out of memory: no later one is larger than half of it. Raises ModelError where
        it was one candidate."""
        if count == 1:
            raise ModelError(
                f"One candidate of {self.size[0]} x {self.size[1]} pixels alone ran out of memory on "
                f"{self.pipeline._execution_device}: make it smaller with width and height, offload the model "
                "(pipeline.enable_model_cpu_offload()), or free memory."
            )
        self._most = count // 2
        if self.pipeline._execution_device.type == "cuda":
            torch.cuda.empty_cache()

    @property
    def _kind(self) -> Kind:
        return self.size, self.pipeline.dtype

    def _taken(self) -> int | None:
        return _taken.get(self.pipeline, {}).get(self._kind)


def out_of_memory(error: BaseException) -> bool:
    """Whether torch says that memory ran out; on a CPU and on mps it says so in words alone."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    said = str(error)
    return isinstance(error, RuntimeError) and ("you tried to allocate" in said or "out of memory" in said)


def _used(pipeline: Any) -> Callable[[], int]:
    """What tells how much of the memory that `pipeline` works in is in use, in bytes."""
    device = pipeline._execution_device
    if device.type == "cuda":
        return lambda: int(torch.cuda.memory_allocated(device))
    process = psutil.Process()
    return lambda: int(process.memory_info().rss)


@contextmanager
def _highest(used: Callable[[], int]) -> Iterator[list[int]]:
    """The highest of what `used` says meanwhile, as the one entry of a list: torch's own peaks are the caller's to
    reset."""
    highest, done = [used()], threading.Event()

    def watch() -> None:
        while not done.wait(EVERY):
            highest[0] = max(highest[0], used())

    watching = threading.Thread(target=watch, name="ctxrep-memory", daemon=True)
    watching.start()
    try:
        yield highest
    finally:
        done.set()
        watching.join()
