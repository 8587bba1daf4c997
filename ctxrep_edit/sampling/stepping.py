"""Following the steps of a pipeline, also of one whose call takes no callback."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from ctxrep_edit.plugins.contracts import StepCallback
from ctxrep_edit.sampling.calling import parameters

CALLBACK = "callback_on_step_end"


@contextmanager
def followed(pipeline: Any, after: StepCallback) -> Iterator[Mapping[str, Any]]:
    """Gives the arguments of the pipeline's call with which `after` follows each step.

    They are none where the call takes no callback: the pipeline's scheduler, which must be a copy lent for this run,
    calls `after` then, with the latents alone.
    """
    if CALLBACK in parameters(pipeline):
        yield {CALLBACK: after}
        return
    scheduler, done = pipeline.scheduler, 0
    original, wrapped = scheduler.step, "step" in vars(scheduler)

    def step(output: Tensor, timestep: Any, sample: Tensor, *args: Any, **options: Any) -> Any:
        nonlocal done
        made = original(output, timestep, sample, *args, **options)
        latents = after(pipeline, done, timestep, {"latents": made[0]})["latents"]
        done += 1
        return (latents, *made[1:]) if isinstance(made, tuple) else dataclasses.replace(made, prev_sample=latents)

    scheduler.step = step
    try:
        yield {}
    finally:
        if wrapped:
            scheduler.step = original
        else:
            del scheduler.step
