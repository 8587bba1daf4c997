"""Following the steps of a pipeline, also of one whose call takes no callback."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import signature
from typing import Any

from torch import Tensor

from ctxrep_edit.plugins.contracts import StepCallback
from ctxrep_edit.sampling.calling import CALLBACK, parameters


@contextmanager
def foreseeing(scheduler: Any, seen: Callable[[int, Callable[[], Tensor]], None]) -> Iterator[None]:
    """In it, `seen` is told before each step of the scheduler, a copy that is lent for this run: how many rows it has,
    and what gives the clean latents that their velocity points at, (rows, ...)."""

    def stepping(original: Any) -> Any:
        def step(output: Tensor, timestep: Any, sample: Tensor, *args: Any, **options: Any) -> Any:
            sigma = scheduler.sigmas[index_of(scheduler)]
            seen(len(sample), lambda: sample - sigma.to(sample) * output)
            return original(output, timestep, sample, *args, **options)

        return step

    with stepped(scheduler, stepping):
        yield


@contextmanager
def drawing(scheduler: Any, generators: Any) -> Iterator[None]:
    """In it, what a step of the scheduler, a copy that is lent for this run, draws for a row comes from the generator
    of that row, as its noise did; stochastic ones would take all from torch's own.

    generators: one for each row, or anything else, with which nothing changes.
    """
    if not isinstance(generators, Sequence) or "generator" not in signature(scheduler.step).parameters:
        yield
        return

    def stepping(original: Any) -> Any:
        def step(output: Tensor, timestep: Any, sample: Tensor, *args: Any, **options: Any) -> Any:
            if len(sample) == len(generators) and not args:
                options.setdefault("generator", [*generators])
            return original(output, timestep, sample, *args, **options)

        return step

    with stepped(scheduler, stepping):
        yield


def index_of(scheduler: Any) -> int:
    """Among its sigmas, that of the step to come."""
    index: int | None = getattr(scheduler, "step_index", None)
    return (getattr(scheduler, "begin_index", None) or 0) if index is None else index


@contextmanager
def stepped(scheduler: Any, change: Callable[[Any], Any]) -> Iterator[None]:
    """In it, the scheduler's `step` is what `change` makes of it."""
    original, wrapped = scheduler.step, "step" in vars(scheduler)
    scheduler.step = change(original)
    try:
        yield
    finally:
        if wrapped:
            scheduler.step = original
        else:
            vars(scheduler).pop("step", None)  # a strategy may have taken it away


@contextmanager
def followed(pipeline: Any, after: StepCallback) -> Iterator[Mapping[str, Any]]:
    """Gives the arguments of the pipeline's call with which `after` follows each step.

    They are none where the call takes no callback: the pipeline's scheduler, which must be a copy lent for this run,
    calls `after` then, with the latents alone.
    """
    if CALLBACK in parameters(pipeline):
        yield {CALLBACK: after}
        return
    done = 0

    def stepping(original: Any) -> Any:
        def step(output: Tensor, timestep: Any, sample: Tensor, *args: Any, **options: Any) -> Any:
            nonlocal done
            made = original(output, timestep, sample, *args, **options)
            latents = after(pipeline, done, timestep, {"latents": made[0]})["latents"]
            done += 1
            return (latents, *made[1:]) if isinstance(made, tuple) else dataclasses.replace(made, prev_sample=latents)

        return step

    with stepped(pipeline.scheduler, stepping):
        yield {}
