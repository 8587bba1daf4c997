"""The particles of one set: a seed and a noise generator each, and whether they fit in memory."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import psutil
import torch

from ctxrep_edit.errors import InputError
from ctxrep_edit.faithfulness.restoration import BYTES_AT_WORK, BYTES_KEPT

KEPT_PER_PIXEL = 100
"""Bytes per pixel of a finished candidate while its set is judged: its picture and what lies beside it."""

FLOATS_PER_PIXEL = 600
"""Working memory of a run, in numbers per pixel and particle. kontext-nano takes 156 (peak resident memory of 132
candidates less that of 4). The decoder of FLUX is wider, 128 channels at full resolution with several such tensors at
once: 600 is an estimate for it, not a measurement."""


def seeds(seed: int | None, n: int) -> list[int]:
    """One seed per particle: seed, seed + 1, ...; None draws the first. So edit i is the same noise for any n."""
    if seed is None:
        seed = secrets.randbelow(2**31)  # torch.seed() would reseed the caller's own generator
    if not isinstance(seed, Integral) or isinstance(seed, bool) or not 0 <= seed < 2**63 - n:
        raise InputError(f"seed is {seed!r}, but must be a whole number from 0 to 2**63 - n.")
    return [int(seed) + i for i in range(n)]


def generators(numbers: Sequence[int]) -> list[torch.Generator]:
    """CPU generators, so that the noise does not depend on the device."""
    return [torch.Generator("cpu").manual_seed(number) for number in numbers]


def free_memory(pipeline: Any) -> int:
    """Bytes that are free where it works, those included that torch keeps of what was freed."""
    device = pipeline._execution_device
    if device.type != "cuda":
        return int(psutil.virtual_memory().available)
    idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0] + idle)


def check_memory(pipeline: Any, n: int, size: tuple[int, int], batch_size: int | None) -> None:
    """Raises InputError if n candidates of (width, height) pixels, or batch_size of them at once, clearly do not fit,
    before anything runs."""
    device, pixels = pipeline._execution_device, size[0] * size[1]
    here, there = psutil.virtual_memory().available, free_memory(pipeline)
    at_work = pixels * FLOATS_PER_PIXEL * pipeline.dtype.itemsize
    for name, count, each, free, where in (
        ("n", n, pixels * KEPT_PER_PIXEL, here, "the host"), ("batch_size", batch_size or 0, at_work, there, device),
    ):  # fmt: skip
        fits = free // each
        if count > fits:
            mend = f"ask for at most {fits}" if fits else "free some, or make them smaller with width and height"
            raise InputError(
                f"{name} is {count}, but about {fits} candidates of {size[0]} x {size[1]} pixels fit in the "
                f"{free / 2**30:.1f} GiB free on {where}: {mend}."
            )


def check_restored(n: int, size: tuple[int, int]) -> None:
    """Raises InputError if n edits restored to (width, height) pixels clearly do not fit, before anything runs."""
    pixels, free = size[0] * size[1], psutil.virtual_memory().available
    fits = max(0, free // pixels - BYTES_AT_WORK) // BYTES_KEPT
    if n > fits:
        more = f"ask for at most {fits}, or make the image smaller" if fits else "make the image smaller"
        raise InputError(
            f"n is {n}, but about {fits} edits restored to {size[0]} x {size[1]} pixels, {BYTES_KEPT} bytes each, "
            f"fit in the {free / 2**30:.1f} GiB of memory that are free: {more}, or leave restore out."
        )
