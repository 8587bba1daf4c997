"""Noise drawn anew after the window, which mends what the push has broken.

A particle that was pushed is on no way that the sampler takes by itself, and what it went wrong in stays in its noise.
So behind the window each step keeps the clean picture that it foresees and draws the noise anew: the churn of Karras
et al. 2022 (arXiv 2206.00364, section 4), at 1 the stochastic sampler of flow models. The first step behind the window
settles the answer, which noise drawn there would make the typical one again, unless it is a long one, as of few steps,
and leaves little noise. And like theirs it ends before the fine detail is drawn, of which it would take some away.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from ctxrep_edit.errors import InputError, RepulsionError
from ctxrep_edit.repulsion.clock import noise_levels
from ctxrep_edit.sampling.stepping import index_of, stepped
from ctxrep_edit.settings import Repulsion

LEAST = 0.5
"""Of the noise that a run starts with, how much a step must leave so that it is drawn anew; their S_tmin."""
SETTLED = 0.7
"""Of the same, how much the first step behind the window may leave at most so that it is drawn anew there, too."""

MEND = "take churn=0"


def can_churn(pipeline: Any) -> bool:
    """Whether noise can be drawn anew between the steps of its scheduler."""
    return isinstance(getattr(pipeline, "scheduler", None), FlowMatchEulerDiscreteScheduler)


@contextmanager
def churned(pipeline: Any, settings: Repulsion, generators: Any, shares: Sequence[float]) -> Iterator[None]:
    """In it, the scheduler, a copy that is lent for this run, draws noise anew in each step behind the window that
    leaves at least `LEAST`, but for the first where that leaves more than `SETTLED`.

    generators: one for each particle, from which its noise came, too. shares: how much of the noise of each is drawn
    anew, 0 to 1, read in each step; with 0 it is the scheduler's own step. Raises InputError for another scheduler
    than Euler's, and where there is no generator for each particle.
    """
    scheduler = pipeline.scheduler
    if not can_churn(pipeline):
        raise InputError(
            f"churn is {settings.churn}, but noise can be drawn anew between the steps of a "
            f"FlowMatchEulerDiscreteScheduler alone, not of a {type(scheduler).__name__}: {MEND}."
        )
    if not isinstance(generators, Sequence) or len(generators) != len(shares):
        raise InputError(
            f"churn is {settings.churn}, but {type(pipeline).__name__} is not given a generator for each particle: "
            f"{MEND}."
        )

    def step_of(original: Any) -> Any:
        def step(output: Tensor, timestep: Any, sample: Tensor, *args: Any, **options: Any) -> Any:
            index = index_of(scheduler)
            number = index - (scheduler.begin_index or 0)
            levels, sigmas = noise_levels(pipeline), scheduler.sigmas[index : index + 2].tolist()
            made = original(output, timestep, sample, *args, **options)
            if levels[number + 1] < LEAST or not _settled(settings, levels, number):
                return made
            if len(sample) != len(shares):
                raise RepulsionError(
                    f"{type(pipeline).__name__} steps {len(sample)} rows of latents for {len(shares)} particles, so "
                    f"that noise cannot be drawn anew for each: {MEND}."
                )
            moved = made[0] if isinstance(made, tuple) else made.prev_sample
            rows = zip(output, sample, moved, shares, generators, strict=True)
            latents = torch.stack(
                [
                    _renewed(velocity, before, sigmas, share, generator) if share else after
                    for velocity, before, after, share, generator in rows
                ]
            )
            return (latents, *made[1:]) if isinstance(made, tuple) else dataclasses.replace(made, prev_sample=latents)

        return step

    with stepped(scheduler, step_of):
        yield


def _settled(settings: Repulsion, levels: Sequence[float], number: int) -> bool:
    """Whether the step of that number is behind the window and leaves `SETTLED` at most, or the one before it is behind
    the window, too."""

    def behind(step: int) -> bool:
        return step >= 0 and settings.share(step, (levels[step], levels[step + 1])) == 0

    return behind(number - 1) or (behind(number) and levels[number + 1] <= SETTLED)


def _renewed(
    velocity: Tensor, sample: Tensor, sigmas: Sequence[float], share: float, generator: torch.Generator
) -> Tensor:
    """Of one particle, latents of any shape at sigmas[1], from those at sigmas[0]: x_t = (1 - sigma) x_0 + sigma noise,
    of whose noise `share` is drawn anew."""
    v, x, (now, then) = velocity.float(), sample.float(), sigmas
    clean, noise = x - now * v, x + (1 - now) * v
    drawn = torch.randn(x.shape, generator=generator, device=generator.device).to(x.device)
    renewed = (1 - share**2) ** 0.5 * noise + share * drawn
    latents: Tensor = (1 - then) * clean + then * renewed
    return latents.to(sample.dtype)
