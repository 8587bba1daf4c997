"""Calling pipelines of either kind, and following the steps of one that takes no callback."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import tiny_flux3
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from ctxrep_edit.sampling.calling import opaque, parameters, steps_of, with_bars
from ctxrep_edit.sampling.stepping import followed
from ctxrep_edit.testing import tiny_pipeline


def test_what_a_call_takes() -> None:
    plain, modular = parameters(tiny_pipeline()), parameters(tiny_flux3.pipeline(tiny_flux3.CLASSES[0]))
    assert plain["num_inference_steps"] == 28
    assert plain["image"] is None
    assert modular["max_sequence_length"] == 8192
    assert {"prompt", "image", "generator", "num_images_per_prompt"} <= set(modular)
    assert "self" not in plain


def test_the_steps_of_a_modular_pipeline_are_its_schedulers() -> None:
    pipeline = tiny_flux3.pipeline(tiny_flux3.CLASSES[0])
    pipeline.scheduler.set_timesteps(7)
    assert steps_of(pipeline) == 7
    assert steps_of(SimpleNamespace(num_timesteps=3)) == 3


def test_every_block_that_loops_has_a_bar() -> None:
    assert any("Denoise" in type(block).__name__ for block in with_bars(tiny_flux3.pipeline(tiny_flux3.CLASSES[0])))


def test_transparency_is_laid_on_white() -> None:
    picture = torch.zeros(1, 4, 1, 3)  # black
    picture[0, 3, 0] = torch.tensor([0.0, 0.5, 1.0])
    assert opaque(picture)[0, :, 0].tolist() == [[1.0, 0.5, 0.0]] * 3
    assert opaque(picture[:, :3]).shape == (1, 3, 1, 3)


class Silent:
    """A pipeline whose call takes no callback."""

    def __init__(self) -> None:
        self.scheduler = FlowMatchEulerDiscreteScheduler()

    def __call__(self, return_dict: bool) -> torch.Tensor:
        self.scheduler.set_timesteps(3)
        latents = torch.ones(2, 4)
        for t in self.scheduler.timesteps:
            out: Any = self.scheduler.step(torch.ones(2, 4), t, latents, return_dict=return_dict)
            latents = out.prev_sample if return_dict else out[0]
        return latents


@pytest.mark.parametrize("return_dict", [True, False])
def test_the_scheduler_tells_of_steps_where_there_is_no_callback(return_dict: bool) -> None:
    pipeline, seen = Silent(), []

    def after(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        seen.append((step, float(timestep)))
        return {"latents": torch.full((2, 4), 7.0) if step == 2 else tensors["latents"]}

    with followed(pipeline, after) as told:
        made = pipeline(return_dict, **told)
    assert [step for step, _ in seen] == [0, 1, 2]
    assert (made == 7).all()
    assert "step" not in vars(pipeline.scheduler)


def test_a_scheduler_that_was_wrapped_before_is_so_afterwards() -> None:
    pipeline = Silent()
    wrapped = pipeline.scheduler.step = pipeline.scheduler.step
    with followed(pipeline, lambda pipe, step, timestep, tensors: tensors) as told:
        pipeline(False, **told)
    assert pipeline.scheduler.step is wrapped
