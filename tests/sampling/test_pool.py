"""A pool: more candidates start, n rows at a time pass, and those that differ most end as edits."""

from __future__ import annotations

import copy
import functools
from dataclasses import replace
from typing import Any

import pytest
import tiny
import tiny_sd3
import torch
from conftest import both
from ctxrep_adapters.sd3_instruct import StableDiffusion3InstructPix2PixPipeline as InstructPipeline
from ctxrep_plugins.standard import Contextual
from diffusers import (
    DDIMScheduler,
    FlowMatchHeunDiscreteScheduler,
    FluxKontextInpaintPipeline,
    StableDiffusion3ControlNetInpaintingPipeline,
    StableDiffusion3InpaintPipeline,
    UniPCMultistepScheduler,
)
from diffusers.callbacks import PipelineCallback
from PIL import Image
from plugging import Nothing
from torch import Tensor

from ctxrep_edit import (
    Case,
    Check,
    InputError,
    PluginError,
    Repulsion,
    Run,
    Strategy,
    Verdict,
    adapter_for,
    diverse_edit,
)
from ctxrep_edit.testing.traces import left_behind

SETTINGS = Repulsion(scope="generated", strength=2.0, steps=2, anchor=True)
edit = functools.partial(
    diverse_edit, instruction=tiny.WORDS, n=3, seed=5, steps=6, preserve="off", progress=False, repulsion=SETTINGS
)


def rows_given(pipeline: Any) -> list[int]:
    """Notes how many rows the first block computes, call by call."""
    rows: list[int] = []
    blocks = next(iter(adapter_for(pipeline).streams))
    first = getattr(adapter_for(pipeline).transformer(pipeline), blocks)[0]
    first.register_forward_hook(lambda module, args, output: rows.append(len(output[0])))
    return rows


def test_the_transformer_has_n_rows_at_a_time(pipeline: Any, picture: Image.Image) -> None:
    rows = rows_given(pipeline)
    edits = edit(picture, pipeline=pipeline, oversample=2)
    assert rows == [3, 3] * 2 + [3, 2] + [3] * 3  # the window, one step to look, and three with those that are kept
    assert len(edits) == 3
    assert edits[0].seed == 5
    assert {edit.seed for edit in edits} <= {*range(5, 11)}
    assert edits.recipe["started"] == [*range(5, 11)]


def test_those_whose_answers_hold_are_left_out_by_the_last_one(pipeline: Any, picture: Image.Image) -> None:
    held = replace(SETTINGS, steps=None, window=0.6, hold=0.2)  # asked in the first step and the fourth of five
    rows = rows_given(pipeline)
    edit(picture, pipeline=pipeline, repulsion=held, oversample=2)
    assert rows == [3, 3, 1, 1, 3, 3, 1, 3, 2]


@pytest.mark.parametrize("alone", [replace(SETTINGS, steps=1), replace(SETTINGS, steps=None, window=0.4, hold=0.5)])
def test_what_all_noise_foresees_leaves_nobody_out(pipeline: Any, picture: Image.Image, alone: Repulsion) -> None:
    rows = rows_given(pipeline)
    edit(picture, pipeline=pipeline, repulsion=alone, oversample=2)
    assert [count for count in rows if count != 1] == [3, 3] * 2 + [3] * (len(rows) - 4 - rows.count(1))


@both
def test_the_first_edit_is_the_plain_one(pipeline: Any, picture: Image.Image) -> None:
    allowed = Image.new("L", picture.size, 255)
    options = {"mask": allowed} if isinstance(pipeline, FluxKontextInpaintPipeline) else {}
    plain = edit(picture, pipeline=pipeline, strength=0.0, **options)
    kept = edit(picture, pipeline=pipeline, oversample=3, **options)
    assert (tiny.pixels(plain)[0] == tiny.pixels(kept)[0]).all()
    assert not (tiny.pixels(plain)[1:] == tiny.pixels(kept)[1:]).all()
    assert kept[0].strength == 0
    again = edit(picture, pipeline=pipeline, oversample=3, **options)
    assert (tiny.pixels(again) == tiny.pixels(kept)).all()
    assert [edit.seed for edit in again] == [edit.seed for edit in kept]


def test_a_pool_of_n_is_no_pool(pipeline: Any, picture: Image.Image) -> None:
    one, other = edit(picture, pipeline=pipeline), edit(picture, pipeline=pipeline, oversample=1)
    assert (tiny.pixels(one) == tiny.pixels(other)).all()
    assert "started" not in one.recipe
    alone = edit(picture, pipeline=pipeline, n=1, oversample=3)
    assert (tiny.pixels(alone) == tiny.pixels(edit(picture, pipeline=pipeline, n=1))).all()


def test_those_that_go_on_are_as_they_would_be_alone(pipeline: Any, picture: Image.Image) -> None:
    """What the caller's callback sees and does not change leaves no trace, nor does what is dropped."""
    early = edit(picture, pipeline=pipeline, oversample=2, repulsion=SETTINGS, steps=6)
    seen: list[Tensor] = []

    def keep(pipe: Any, step: int, timestep: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.append(tensors["latents"].clone())
        return tensors

    noted = edit(picture, pipeline=pipeline, oversample=2, callback_on_step_end=keep)
    assert (tiny.pixels(noted) == tiny.pixels(early)).all()
    assert [len(latents) for latents in seen] == [6] * 6
    dropped = [i for i in range(6) if 5 + i not in {edit.seed for edit in noted}]
    assert torch.equal(seen[2][dropped], seen[4][dropped])  # they stay where they are


@pytest.mark.parametrize("guided", [False, True])
def test_guidance_in_two_calls(pipeline: Any, picture: Image.Image, guided: bool) -> None:
    options = {"true_cfg_scale": 2.0, "negative_prompt": "blurred"} if guided else {}
    rows = rows_given(pipeline)
    edits = edit(picture, pipeline=pipeline, oversample=2, **options)
    assert rows == [3, 3] * (2 * (1 + guided)) + [3, 2] * (1 + guided) + [3] * (3 * (1 + guided))
    plain = edit(picture, pipeline=pipeline, strength=0.0, **options)
    assert (tiny.pixels(edits)[0] == tiny.pixels(plain)[0]).all()


@pytest.mark.parametrize(
    "cls", [InstructPipeline, StableDiffusion3InpaintPipeline, StableDiffusion3ControlNetInpaintingPipeline]
)
def test_guidance_in_one_batch(cls: type, picture: Image.Image) -> None:
    pipeline = tiny_sd3.pipeline(cls)
    options: dict[str, Any] = {"width": 64, "height": 64, "guidance_scale": 3.0, "max_sequence_length": tiny.LENGTH}
    if cls is not InstructPipeline:
        options["mask"] = Image.new("L", picture.size, 255)
    rows = rows_given(pipeline)
    edits = edit(picture, pipeline=pipeline, oversample=2, **options)
    parts = 3 if cls is InstructPipeline else 2
    assert rows == [count * parts for count in [3, 3] * 2 + [3, 2] + [3] * (len(rows) - 6)]
    assert len(edits) == 3
    plain = edit(picture, pipeline=pipeline, strength=0.0, **options)
    assert (abs(tiny.pixels(edits)[0].astype(int) - tiny.pixels(plain)[0]) <= 1).all()


@pytest.mark.parametrize(
    "scheduler",
    [
        FlowMatchHeunDiscreteScheduler(),
        UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction"),
        UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction", final_sigmas_type="sigma_min"),
    ],
    ids=["two evaluations", "many steps", "some noise at the end"],
)
def test_schedulers_with_a_memory_keep_it(picture: Image.Image, scheduler: Any) -> None:
    pipeline = tiny_sd3.pipeline(InstructPipeline)
    pipeline.scheduler = scheduler
    options: dict[str, Any] = {"width": 64, "height": 64, "max_sequence_length": tiny.LENGTH}
    plain = edit(picture, pipeline=pipeline, strength=0.0, **options)
    edits = edit(picture, pipeline=pipeline, oversample=2, **options)
    assert (abs(tiny.pixels(edits)[0].astype(int) - tiny.pixels(plain)[0]) <= 1).all()
    assert pipeline.scheduler is scheduler
    assert "step" not in vars(scheduler)


def test_what_is_made_again_comes_from_a_pool_too(pipeline: Any, picture: Image.Image) -> None:
    options = {"on_unfaithful": "retry", "retries": 2, "preserve": [Nothing()]}
    rows = rows_given(pipeline)
    edits = edit(picture, pipeline=pipeline, oversample=2, **options)
    assert edits.recipe["rounds"] == 2
    assert len(rows) == 3 * 9
    seeds = [edit.seed for edit in edits]
    assert len({*seeds}) == 3
    assert seeds[0] == 5 + 2 * 6  # an anchor is made again as one
    assert {*seeds} <= {*range(17, 23)}


class Second(Check):
    """Objects to the second edit, once."""

    name = "second"
    summary = "once"

    def __init__(self) -> None:
        self.asked = 0

    def verdicts(self, case: Case) -> list[Verdict]:
        self.asked += 1
        return [Verdict(self.asked > 1 or i != 1, "taste", 0.0, 0.0, "ugly") for i in range(len(case.edits))]


def test_one_that_is_made_again_is_chosen_away_from_those_that_are_kept(pipeline: Any, picture: Image.Image) -> None:
    first = edit(picture, pipeline=pipeline, oversample=2)
    rows = rows_given(pipeline)
    edits = edit(picture, pipeline=pipeline, oversample=2, preserve=[Second()], on_unfaithful="retry")
    assert rows[:9] == [3, 3] * 2 + [3, 2] + [3] * 3
    assert rows[9:] == [1] * 9  # two start, in turns
    assert [edit.seed for edit in edits][::2] == [edit.seed for edit in first][::2]
    assert edits[1].seed in (5 + 6 + 1, 5 + 6 + 3)
    assert (tiny.pixels(edits)[::2] == tiny.pixels(first)[::2]).all()


@pytest.mark.parametrize("scope", ["pooled", "context", "generated"])
def test_in_half_precision(pipeline: Any, picture: Image.Image, scope: str) -> None:
    half = copy.deepcopy(pipeline).to(torch.bfloat16)
    plain = edit(picture, pipeline=half, strength=0.0)
    edits = edit(picture, pipeline=half, oversample=2, scope=scope)
    assert (tiny.pixels(edits)[0] == tiny.pixels(plain)[0]).all()
    assert not (tiny.pixels(edits)[1:] == tiny.pixels(plain)[1:]).all()


def test_a_run_that_is_stopped_has_n_pictures(pipeline: Any, picture: Image.Image) -> None:
    for last in (1, 4):  # before the choice, and after it

        def stop(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any], last: int = last) -> dict[str, Any]:
            pipe._interrupt = step == last
            return tensors

        options = {"on_unfaithful": "retry", "preserve": [Nothing()]}
        edits = edit(picture, pipeline=pipeline, oversample=2, callback_on_step_end=stop, **options)
        assert edits.recipe["stopped"]
        assert edits.recipe["rounds"] == 0
        assert len(edits) == 3


def test_an_exception_leaves_no_trace(pipeline: Any, picture: Image.Image) -> None:
    edit(picture, pipeline=pipeline, strength=0.0)  # diffusers leaves a registry of hooks behind
    before = tiny.traces(pipeline)
    for last in (1, 5):

        def fail(step: int, steps: int, last: int = last) -> None:
            if step == last:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            edit(picture, pipeline=pipeline, oversample=2, on_step=fail)
        assert not left_behind(before, tiny.traces(pipeline))


def test_where_the_window_never_ends_the_last_step_chooses(pipeline: Any, picture: Image.Image) -> None:
    rows = rows_given(pipeline)
    edits = edit(picture, pipeline=pipeline, oversample=2, steps=2, repulsion=Repulsion(scope="generated", window=1.0))
    assert len(edits) == 3
    assert len(rows) == 2 * 2


class Aloof(Contextual):
    """Leaves the bank alone."""

    def sample(self, run: Run) -> Tensor:
        run.bank = None
        return super().sample(run)


class Plain(Strategy):
    name = "plain"
    summary = "nothing"

    def sample(self, run: Run) -> Tensor:
        return run.call()


def test_what_cannot_be_is_said(pipeline: Any, picture: Image.Image) -> None:
    with pytest.raises(InputError, match="oversample of the repulsion is 0, but must be a whole number >= 1"):
        edit(picture, pipeline=pipeline, oversample=0)
    with pytest.raises(InputError, match="oversample is 2, but with strength 0 nothing repels"):
        edit(picture, pipeline=pipeline, oversample=2, strength=0)
    with pytest.raises(InputError, match=r"window is 0\.2, but with strength 0 nothing repels"):
        edit(picture, pipeline=pipeline, oversample=None, window=0.2, strength=0)
    with pytest.raises(InputError, match="The strategy plain takes a strength only: leave scope, window, oversample"):
        edit(picture, pipeline=pipeline, oversample=2, strategy=Plain(), repulsion=None)
    pipeline.scheduler, own = DDIMScheduler(), pipeline.scheduler
    try:
        with pytest.raises(InputError, match=r"oversample is 2, but by the sigmas of DDIMScheduler.*take oversample=1"):
            edit(picture, pipeline=pipeline, oversample=2)
    finally:
        pipeline.scheduler = own
    with pytest.raises(PluginError, match=r"contextual does not hand run\.bank to `repelled`.*oversample=1"):
        edit(picture, pipeline=pipeline, oversample=2, strategy=Aloof())
    embeds = torch.zeros(3, tiny.LENGTH, 32)
    with pytest.raises(InputError, match="prompt_embeds has a row for each edit, but with oversample=2 more"):
        edit(picture, pipeline=pipeline, oversample=2, prompt_embeds=embeds)


@pytest.mark.parametrize("oversample", [1, 2])
def test_a_callback_may_ask_for_other_tensors_alone(pipeline: Any, picture: Image.Image, oversample: int) -> None:
    class Looking(PipelineCallback):
        tensor_inputs = ("prompt_embeds",)

        def callback_fn(self, pipe: Any, step: int, timestep: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            return look(pipe, step, timestep, tensors)

    def look(pipe: Any, step: int, timestep: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.append(len(tensors["prompt_embeds"]))
        return tensors

    usual, seen = edit(picture, pipeline=pipeline, oversample=oversample), list[int]()
    for options in (
        {"callback_on_step_end": look, "callback_on_step_end_tensor_inputs": ["prompt_embeds"]},
        {"callback_on_step_end": Looking(cutoff_step_ratio=None, cutoff_step_index=1)},
    ):
        seen.clear()
        edits = edit(picture, pipeline=pipeline, oversample=oversample, **options)
        assert (tiny.pixels(edits) == tiny.pixels(usual)).all()
        assert len(seen) == 6
