"""Which step of the sampler it is, and how much noise there is in it."""

import copy
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import tiny_sd3
import torch
from diffusers import (
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    StableDiffusion3Img2ImgPipeline,
)
from PIL import Image
from tiny import SOME

from ctxrep_edit import Repulsion, RepulsionError, attach, detach, repelled
from ctxrep_edit.plugins import catalog
from ctxrep_edit.repulsion.clock import Clock, noise_levels


def test_steps_are_the_samplers_where_timesteps_collide(pipeline: Any, picture: Image.Image) -> None:
    """In bfloat16 neighbouring timesteps of a long run are one number."""
    half, steps, times = copy.deepcopy(pipeline).to(torch.bfloat16), [], []
    half.transformer.register_forward_pre_hook(
        lambda *seen: times.append(float(seen[2]["timestep"][0])), with_kwargs=True
    )
    with repelled(half, replace(SOME, steps=5, scope="context"), particles=2) as run:
        half.transformer.transformer_blocks[0].register_forward_hook(lambda *_: steps.append(run.clock.step))
        tiny.run(half, picture, 2, num_inference_steps=300)
    assert len({*times}) < 300
    assert steps == [*range(300)]
    assert len(run.vendi) == 5 * 2


def test_a_step_of_two_evaluations_is_one(picture: Image.Image) -> None:
    pipeline, steps = tiny_sd3.pipeline(StableDiffusion3Img2ImgPipeline), []
    pipeline.scheduler = FlowMatchHeunDiscreteScheduler()
    options = {"width": 64, "height": 64, "steps": 3, "max_sequence_length": tiny.LENGTH, "denoising_strength": 1.0}
    with before_each_tick(pipeline, steps):
        tiny.edit(picture, pipeline=pipeline, repulsion=replace(SOME, scope="context", steps=1), **options)
    assert steps == [0, 0, 1, 1, 2]


@pytest.mark.parametrize("begin", [0, 3])
@pytest.mark.parametrize("order", [1, 2])
def test_how_much_noise_a_step_takes_away(begin: int, order: int) -> None:
    scheduler = FlowMatchHeunDiscreteScheduler() if order == 2 else FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(8)
    scheduler.set_begin_index(begin * order)
    levels = noise_levels(SimpleNamespace(scheduler=scheduler))
    assert len(levels) == 8 - begin + 1
    assert (levels[0], levels[-1]) == (1, 0)
    assert all(a > b for a, b in itertools.pairwise(levels))


@pytest.mark.parametrize("scheduler", [EulerDiscreteScheduler(), DDIMScheduler(), None])
def test_a_scheduler_that_is_no_flows_needs_steps(pipeline: Any, scheduler: Any) -> None:
    pipeline.scheduler, own = scheduler, pipeline.scheduler
    try:
        with pytest.raises(RepulsionError, match=r"does not say how much of the noise.*with Repulsion\(steps=\.\.\.\)"):
            attach(pipeline, Repulsion(scope="context", window=0.2), particles=2)
        detach(attach(pipeline, Repulsion(scope="context", steps=2), particles=2))
    finally:
        pipeline.scheduler = own


def test_the_window_is_where_noise_is(pipeline: Any, picture: Image.Image) -> None:
    for steps in (4, 8, 20):
        with repelled(pipeline, replace(SOME, scope="context", steps=None, window=0.3), particles=2) as run:
            tiny.run(pipeline, picture, 2, num_inference_steps=steps)
            levels = noise_levels(pipeline)
        blocks = len(pipeline.transformer.transformer_blocks)
        assert len(run.vendi) == blocks * sum(level > 0.7 + 1e-5 for level in levels)


@contextmanager
def before_each_tick(pipeline: Any, steps: list[int]) -> Iterator[None]:
    """Notes the step that a clock of ours sees at each call of the transformer."""
    clock = Clock(catalog.adapter_for(pipeline), pipeline)

    def note(module: Any, args: Any, call: dict[str, Any]) -> None:
        clock.tick(call)
        steps.append(clock.step)

    handle = pipeline.transformer.register_forward_pre_hook(note, with_kwargs=True)
    yield
    handle.remove()
