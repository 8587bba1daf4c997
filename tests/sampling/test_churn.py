"""Noise drawn anew after the window: whose, when, and by which formula."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import both
from diffusers import FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler, UniPCMultistepScheduler
from PIL import Image
from tiny import SOME, edit, pixels

from ctxrep_edit import EditSet, InputError, Repulsion, attach, diverse_edit, load_pipeline
from ctxrep_edit.repulsion.bank import Bank
from ctxrep_edit.sampling.churn import LEAST, SETTLED, churned

MOVED = replace(SOME, anchor=True, steps=2)
CHURNED = replace(MOVED, churn=1.0)


class Sampler:
    """As much of a pipeline as has a scheduler."""

    def __init__(self, steps: int, **options: Any) -> None:
        self.scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, **options)
        self.scheduler.set_timesteps(sigmas=[1 - step / steps for step in range(steps)])  # as pipelines do
        self.scheduler.set_begin_index(0)


def ways(share: float, window: float, steps: int = 8) -> tuple[list[torch.Tensor], list[torch.Tensor], Sampler]:
    """Latents after each step from one state, with and without churn of the second row, by random velocities."""
    velocities = torch.randn(steps, 2, 5, 3, generator=torch.Generator().manual_seed(1))
    found = []
    for shares in ([0.0, share], [0.0, 0.0]):
        sampler, latents, seen = Sampler(steps), torch.ones(2, 5, 3), []
        generators = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
        settings = Repulsion(strength=1.0, window=window, schedule="constant", churn=share)
        with churned(sampler, settings, generators, shares):
            for velocity, timestep in zip(velocities, sampler.scheduler.timesteps, strict=True):
                latents = sampler.scheduler.step(velocity, timestep, latents, return_dict=False)[0]
                seen.append(latents)
        assert "step" not in vars(sampler.scheduler)
        found.append(seen)
    return found[0], found[1], sampler


@pytest.mark.parametrize("share", [1.0, 0.6])
def test_the_noise_is_drawn_anew_behind_the_window_and_while_half_is_left(share: float) -> None:
    moved, plain, sampler = ways(share, window=0.1)
    sigmas = sampler.scheduler.sigmas
    velocities = torch.randn(8, 2, 5, 3, generator=torch.Generator().manual_seed(1))
    drawn = torch.Generator().manual_seed(4)
    latents, renewed = torch.ones(5, 3), 0
    for i, (before, after) in enumerate(itertools.pairwise(sigmas)):
        clean, noise = latents - before * velocities[i, 1], latents + (1 - before) * velocities[i, 1]
        if i and sigmas[i - 1] <= 0.9 + 1e-6 and after >= LEAST:
            noise = (1 - share**2) ** 0.5 * noise + share * torch.randn(5, 3, generator=drawn)
            renewed += 1
        latents = (1 - after) * clean + after * noise
        assert moved[i][1] == pytest.approx(latents, abs=1e-5)
        assert torch.equal(moved[i][0], plain[i][0])  # without a share it is the scheduler's own step
    assert renewed == 3


@pytest.mark.parametrize(("steps", "first"), [(4, 2), (12, 5)])
def test_the_first_step_behind_the_window_draws_where_little_is_left(steps: int, first: int) -> None:
    """Of 4 steps that is all there is between the window and the detail."""
    moved, plain, sampler = ways(1.0, window=0.14, steps=steps)
    differ = [not torch.equal(a[1], b[1]) for a, b in zip(moved, plain, strict=True)]
    assert differ == [step >= first for step in range(steps)]
    leaves = sampler.scheduler.sigmas[first + 1]
    assert (leaves <= SETTLED) == (steps == 4)


def test_all_of_it_is_the_stochastic_sampling_of_diffusers() -> None:
    sampler, theirs = Sampler(8), Sampler(8, stochastic_sampling=True)
    velocity, latents = torch.randn(2, 1, 5, 3, generator=torch.Generator().manual_seed(1))
    settings = Repulsion(strength=1.0, steps=1, churn=1.0)
    ours: list[torch.Tensor] = []
    with churned(sampler, settings, [torch.Generator().manual_seed(7)], [1.0]):
        for timestep in sampler.scheduler.timesteps[:3]:
            ours.append(sampler.scheduler.step(velocity, timestep, latents, return_dict=False)[0])
    for timestep in theirs.scheduler.timesteps[:2]:
        theirs.scheduler.step(velocity, timestep, latents)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        expected = theirs.scheduler.step(velocity, theirs.scheduler.timesteps[2], latents).prev_sample
    assert ours[2] == pytest.approx(expected, abs=1e-5)


@both
def test_it_changes_what_was_moved_and_nothing_else(pipeline: Any, picture: Image.Image) -> None:
    mask = Image.new("L", picture.size, 255) if "Inpaint" in type(pipeline).__name__ else None
    asked = {"pipeline": pipeline, "mask": mask, "steps": 8}
    moved, renewed, again = (edit(picture, **asked, repulsion=settings) for settings in (MOVED, CHURNED, CHURNED))
    assert np.array_equal(pixels(renewed), pixels(again))
    assert renewed.recipe["repulsion"]["churn"] == 1.0
    assert [np.array_equal(a, b) for a, b in zip(pixels(moved), pixels(renewed), strict=True)] == [True, False, False]
    plain = edit(picture, **asked, repulsion=replace(CHURNED, strength=0.0))
    assert np.array_equal(pixels(plain), pixels(edit(picture, **asked, strength=0)))


def test_a_candidate_draws_the_same_in_any_batch(pipeline: Any, picture: Image.Image) -> None:
    """Each from a generator of its own: so hardly pushed, only what was drawn could tell one from another."""
    hardly = replace(CHURNED, strength=1e-6)
    at_once, one_by_one = (
        edit(picture, pipeline=pipeline, steps=8, repulsion=hardly, batch_size=size) for size in (3, 1)
    )
    assert np.abs(pixels(at_once).astype(int) - pixels(one_by_one)).max() <= 1
    assert not np.array_equal(pixels(at_once), pixels(edit(picture, pipeline=pipeline, steps=8, strength=0)))


@pytest.mark.parametrize("kind", [FlowMatchHeunDiscreteScheduler, UniPCMultistepScheduler])
def test_other_schedulers(kind: Any, picture: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = load_pipeline("sd3-nano", progress=False)
    own = kind.from_config(pipeline.scheduler.config, use_flow_sigmas=True)
    monkeypatch.setattr(pipeline, "scheduler", own)  # for a time: others are given this pipeline
    shared = {"pipeline": pipeline, "seed": 0, "steps": 4, "preserve": "off", "progress": False}
    edits = diverse_edit(picture, "add a sticker", 2, oversample=1, **shared)
    assert edits.recipe["repulsion"]["churn"] == 0.0  # the model states 1
    wanted = Repulsion(churn=1.0, oversample=1)
    with pytest.raises(InputError, match=rf"churn is 1\.0, but .* not of a {kind.__name__}: take churn=0\."):
        diverse_edit(picture, "add a sticker", 2, repulsion=wanted, **shared)
    assert pipeline.scheduler is own
    assert "step" not in vars(own)


@pytest.mark.parametrize("value", [-0.1, 1.1, True, "all", float("nan")])
def test_what_is_no_share(value: Any) -> None:
    with pytest.raises(InputError, match=r"churn is .* must be a number from 0 to 1"):
        Repulsion(churn=value)


@pytest.mark.parametrize("bank", [None, Bank()])
def test_attaching_leaves_the_scheduler_alone(pipeline: Any, bank: Bank | None) -> None:
    with pytest.raises(InputError, match=r"churn is 1\.0, but here the scheduler is left alone"):
        attach(pipeline, CHURNED, particles=2, bank=bank)


def test_it_is_known_of_saved_sets(pipeline: Any, picture: Image.Image, tmp_path: Path) -> None:
    """Else a walk could not end in them."""
    first = edit(picture, pipeline=pipeline, steps=8, repulsion=CHURNED, bank="memory")
    first.save(tmp_path / "set", bank=True)
    loaded = EditSet.load(tmp_path / "set")
    walk = loaded.between(0, 2, 3, pipeline=pipeline, progress=False)
    assert np.array_equal(pixels(walk)[[0, 2]], pixels(first)[[0, 2]])
    assert walk[1].trace is not None
    assert walk[1].trace.churn == 0.5  # half way from the plain one, of which nothing was drawn anew
    onward = walk.between(1, 2, 2, pipeline=pipeline, progress=False)
    assert np.array_equal(pixels(onward), pixels(walk)[[1, 2]])


def test_leaning_on_it_without_it(pipeline: Any, picture: Image.Image) -> None:
    first = edit(picture, pipeline=pipeline, steps=8, repulsion=CHURNED, bank="memory")
    with pytest.raises(InputError, match=r"made with noise drawn anew.*give repulsion=Repulsion\(churn=1"):
        edit(picture, pipeline=pipeline, steps=8, repulsion=MOVED, like=first[1])
