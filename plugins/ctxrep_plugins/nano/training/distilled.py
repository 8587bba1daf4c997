"""Distils a trained model into one that takes few steps: the student goes in one step where its teacher took several.

The teacher's way from noise to picture is cut at the noise levels of the student's sampler. From each of these states
of the teacher the student learns the one velocity that leads to the next, so that it follows the same way and gives
the same answer from the same noise (one stage of progressive distillation; Salimans and Ho, arXiv 2202.00512).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from ctxrep_plugins.nano import text
from ctxrep_plugins.nano.models.model import SHIFT, Model
from ctxrep_plugins.nano.training.checkpoints import keep
from ctxrep_plugins.nano.training.pairs import drawn_request, latents_of
from ctxrep_plugins.nano.training.transformer import weighted
from ctxrep_plugins.nano.world import photos
from diffusers import AutoencoderTiny, FlowMatchEulerDiscreteScheduler
from torch import Tensor

FINER = (4, 4, 4, 1)  # steps of the teacher for each of the student's, of which the last takes hardly any noise away
CHUNK = 64  # ways that are made at once, of crops of one size
SHARE = (0.3, 0.3, 0.3, 0.1)  # of each of the student's steps, in training


def levels(model: Model) -> Tensor:
    """The noise levels at which the student's sampler calls it, from 1 on, and the 0 at the end: (steps + 1,)."""
    scheduler = FlowMatchEulerDiscreteScheduler(shift=SHIFT)
    scheduler.set_timesteps(model.steps)
    sigmas: Tensor = scheduler.sigmas.clone()
    return sigmas


@dataclass(frozen=True)
class Steps:
    """Steps of the student: latents, (n, 16, h, w) float32, of the `state` that it starts from, of the `source` and of
    the picture that its teacher came to in the `end`; the `velocity` that leads to the teacher's next state; the noise
    levels `sigma` (n,), and indices of phrases, (n,)."""

    state: Tensor
    source: Tensor
    sigma: Tensor
    phrase: Tensor
    velocity: Tensor
    end: Tensor


def step_loss(model: Model, steps: Steps, generator: torch.Generator) -> Tensor:
    """How far the student's velocities are from those of its teacher's way; a scalar."""
    predicted = model.velocity(steps.state, steps.source, steps.sigma, steps.phrase).float()
    return weighted(predicted - steps.velocity, steps.source, steps.end)


class Ways:
    """`count` ways of `teacher` from noise to picture, made once and kept in `folder`, CHUNK by CHUNK."""

    def __init__(
        self, pictures: Sequence[np.ndarray], teacher: Model, vae: AutoencoderTiny, sigmas: Tensor, count: int,
        folder: Path, seed: int,
    ) -> None:  # fmt: skip
        self.sigmas = sigmas
        self.chunks: list[tuple[Tensor, Tensor, Tensor]] = []
        for number in range(-(-count // CHUNK)):
            file = folder / f"ways-{seed}-{number}.pt"
            if not file.exists():
                made = _made(pictures, teacher, vae, sigmas, np.random.default_rng([seed, 5, number]))
                keep(made, file)
                print(f"ways {(number + 1) * CHUNK}/{count}", flush=True)
            self.chunks.append(tuple(torch.load(file, weights_only=True, mmap=True)))

    def batch(self, size: int, rng: np.random.Generator) -> Steps:
        """`size` steps of the student, on ways of one chunk."""
        states, sources, phrases = self.chunks[rng.integers(len(self.chunks))]
        rows = torch.from_numpy(rng.choice(CHUNK, size, replace=False))
        steps = torch.from_numpy(rng.choice(len(SHARE), size, p=SHARE))
        here, there = states[steps, rows].float(), states[steps + 1, rows].float()  # (size, 16, h, w) each
        gone = (self.sigmas[steps] - self.sigmas[steps + 1])[:, None, None, None]
        source, end = sources[rows].float(), states[-1, rows].float()
        return Steps(here, source, self.sigmas[steps], phrases[rows].long(), (here - there) / gone, end)


@torch.no_grad()
def _made(
    pictures: Sequence[np.ndarray], teacher: Model, vae: AutoencoderTiny, sigmas: Tensor, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """CHUNK ways: the states at each of the levels, (levels, CHUNK, 16, h, w), the sources, and what was asked."""
    index_of = {phrase: i for i, phrase in enumerate(text.corpus())}
    bucket = photos.BUCKETS[0] if rng.random() < 0.5 else photos.BUCKETS[rng.integers(1, len(photos.BUCKETS))]
    crops, asked = [], []
    for _ in range(CHUNK):
        asked.append(index_of[drawn_request(rng).text])
        crops.append(photos.augment(photos.busy_crop(pictures, bucket, rng), rng))
    phrases = torch.tensor(asked, device=vae.device)
    source = latents_of(crops, vae)  # (CHUNK, 16, h, w)
    state = torch.randn(source.shape, generator=torch.Generator().manual_seed(int(rng.integers(2**62))))
    state = state.to(vae.device)
    states = [state]
    for first, last, finer in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), FINER, strict=True):
        between = np.linspace(first, last, finer + 1)
        for sigma, after in itertools.pairwise(between):
            velocity = teacher.velocity(state, source, torch.full((CHUNK,), sigma, device=vae.device), phrases)
            state = state + (after - sigma) * velocity
        states.append(state)
    return torch.stack(states).half().cpu(), source.half().cpu(), phrases.to(torch.int16).cpu()
