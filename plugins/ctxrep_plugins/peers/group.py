"""Group inference: many candidates start, few are kept."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ctxrep_edit import Run, Strategy

if TYPE_CHECKING:
    import torch

CANDIDATES = 128


class GroupInference(Strategy):
    """Scalable group inference (Parmar et al. 2025, arXiv 2508.15773).

    128 candidates start. After each step the clean pictures that they point at are decoded, and half of them go, down
    to n: those stay whose qualities and pairwise distances add up to most, found greedily. The authors measure with
    CLIP and DINO; here a distance is one minus the cosine of AlexNet features, and quality the cosine to the source.
    strength: weight of the distances against the qualities. The seeds of the set are those that were kept.
    """

    name = "group-inference"
    summary = f"group inference: {CANDIDATES} candidates, half of them dropped after each step by quality and distance"
    extra_seeds = CANDIDATES - 1

    def sample(self, run: Run) -> torch.Tensor:
        import torch

        seeds = [run.seeds[0] + i for i in range(max(CANDIDATES, run.n))]
        latents: torch.Tensor | None = None
        done = 0  # steps
        while len(seeds) > run.n:
            generators = [torch.Generator().manual_seed(seed) for seed in seeds]
            with _one_step(run.pipeline.scheduler, done) as state:
                images = run.call(
                    generator=generators, num_images_per_prompt=len(seeds), latents=latents, after_step=_stop
                )
            done += 1
            last = done == state["steps"]
            kept = self._choose(run, images, run.n if last else max(run.n, len(seeds) // 2))
            seeds = [seeds[i] for i in kept]
            latents = state["next"][kept]
            if last:
                run.seeds = seeds
                return images[kept]
        run.seeds = seeds
        with _from(run.pipeline.scheduler, done):
            return run.call(generator=[torch.Generator().manual_seed(s) for s in seeds], latents=latents)

    def _choose(self, run: Run, images: torch.Tensor, count: int) -> list[int]:
        """Drops the candidate that adds least until `count` are left; their indices, in order."""
        import torch

        from ctxrep_edit import EMBEDDERS, to_tensor

        source = to_tensor(run.arguments["image"].resize((images.shape[3], images.shape[2])))  # (1, 3, h, w)
        features = EMBEDDERS.get("alexnet").embed(torch.cat([source, images])).double()  # (1 + m, d)
        cosines = features @ features.T
        quality, distances = cosines[0, 1:], 1 - cosines[1:, 1:]  # (m,), (m, m)
        left = torch.ones(len(images), dtype=torch.bool)
        for _ in range(len(images) - count):
            worth = quality + run.settings.strength * distances[:, left].sum(1) / max(1, count - 1)
            left[int(torch.where(left, worth, torch.inf).argmin())] = False
        return [int(i) for i in left.nonzero().flatten()]


def _stop(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
    """Ends the loop of a pipeline after its first step."""
    pipe._interrupt = True
    return tensors


@contextmanager
def _from(scheduler: Any, first: int) -> Iterator[None]:
    """Lets a scheduler leave out its first steps."""
    original = scheduler.set_timesteps

    @functools.wraps(original)  # pipelines look at its signature
    def set_timesteps(*args: Any, **options: Any) -> None:
        original(*args, **options)
        scheduler.timesteps, scheduler.sigmas = scheduler.timesteps[first:], scheduler.sigmas[first:]

    scheduler.set_timesteps = set_timesteps
    try:
        yield
    finally:
        del scheduler.set_timesteps


@contextmanager
def _one_step(scheduler: Any, first: int) -> Iterator[dict[str, Any]]:
    """Lets step `first` lead straight to the clean picture that the model points at; notes the latents it really leads
    to as "next", and the number of all steps as "steps"."""
    state: dict[str, Any] = {}
    original = scheduler.step

    def step(velocity: torch.Tensor, timestep: Any, sample: torch.Tensor, **options: Any) -> Any:
        state["steps"] = first + len(scheduler.timesteps)
        state["next"] = original(velocity, timestep, sample, return_dict=False)[0]
        return (sample - scheduler.sigmas[0].to(sample) * velocity,)  # x_0 of x_t = (1 - sigma) x_0 + sigma noise

    scheduler.step = step
    try:
        with _from(scheduler, first):
            yield state
    finally:
        scheduler.step = original
