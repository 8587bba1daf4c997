"""A pool in batches: all start together, and those that wait for their batch go on from where they were."""

from __future__ import annotations

import functools
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import tiny_qwen
import tiny_sd3
import tiny_zimage
import torch
from conftest import both
from ctxrep_adapters.sd3_instruct import StableDiffusion3InstructPix2PixPipeline as InstructPipeline
from diffusers import (
    FlowMatchHeunDiscreteScheduler,
    FluxKontextInpaintPipeline,
    StableDiffusion3InpaintPipeline,
    UniPCMultistepScheduler,
)
from PIL import Image
from plugging import Nothing
from sampling.test_batches import Forgetful, OneByOne
from sampling.test_pool import rows_given
from torch import Tensor

from ctxrep_edit import InputError, ModelError, PluginError, Repulsion, diverse_edit, stream_edits
from ctxrep_edit.repulsion import bank
from ctxrep_edit.sampling import plan, rounds, waiting
from ctxrep_edit.testing import tiny_pipeline
from ctxrep_edit.testing.traces import left_behind

SETTINGS = Repulsion(scope="generated", strength=2.0, steps=2, anchor=True, oversample=2)
HELD = replace(SETTINGS, steps=None, window=0.6, hold=0.4)
SIZE = {"width": 64, "height": 64}
SD3 = {**SIZE, "max_sequence_length": tiny.LENGTH}
GUIDED = {**SIZE, "true_cfg_scale": 2.0, "negative_prompt": "blurred"}
edit = functools.partial(
    diverse_edit, instruction=tiny.WORDS, n=4, seed=5, steps=6, batch_size=2, preserve="off", progress=False,
    repulsion=SETTINGS,
)  # fmt: skip


@pytest.fixture
def off(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How far from where they were left those that waited come by the pipeline's own steps, batch by batch."""
    found: list[float] = []
    original = waiting.Resumption.after

    def after(self: Any, first: Any) -> Any:
        def noted(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            made = first(pipe, step, timestep, tensors)
            if step == self.waiting.step:
                found.append(float((made["latents"] - self.waiting.latents).abs().max()))
            return dict(made)

        return original(self, noted)

    monkeypatch.setattr(waiting.Resumption, "after", after)
    return found


def instruct(scheduler: Any = None) -> Any:
    pipeline = tiny_sd3.pipeline(InstructPipeline)
    pipeline.scheduler = scheduler or pipeline.scheduler
    return pipeline


@both
def test_those_that_waited_take_the_same_way(pipeline: Any, picture: Image.Image, off: list[float]) -> None:
    mask = Image.new("L", picture.size, 255) if isinstance(pipeline, FluxKontextInpaintPipeline) else None
    rows = rows_given(pipeline)
    edits = edit(picture, pipeline=pipeline, mask=mask)
    assert off == [pytest.approx(0, abs=1e-5)]
    assert rows == [2] * (4 * 2 + 3 + 3 + 3)  # the window, a step to look, the rest of each
    assert edits.recipe["batches"] == [[0, 1], [2, 3]]
    plain = edit(picture, pipeline=pipeline, mask=mask, strength=0.0)
    assert [bool((one == other).all()) for one, other in zip(*map(tiny.pixels, (edits, plain)), strict=True)] == [
        True, False, False, False,
    ]  # fmt: skip
    assert [one.strength for one in edits] == [0.0, 2.0, 2.0, 2.0]
    assert edits.contextual_vendi is not None


@pytest.mark.parametrize("repulsion", [SETTINGS, HELD], ids=["asked", "held"])
@pytest.mark.parametrize(
    ("made", "options"),
    [
        (tiny_pipeline, GUIDED),
        (instruct, {**SD3, "guidance_scale": 3.0}),
        (lambda: tiny_sd3.pipeline(StableDiffusion3InpaintPipeline), {**SD3, "guidance_scale": 3.0}),
        (lambda: instruct(FlowMatchHeunDiscreteScheduler()), SD3),
        (
            lambda: instruct(UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction")),
            SD3,
        ),
        (tiny_qwen.pipeline, {**SIZE, "true_cfg_scale": 2.0}),
        (tiny_zimage.pipeline, SIZE),
    ],
    ids=["two calls", "three parts", "inpainting", "two evaluations", "a scheduler with a memory", "qwen", "lists"],
)
def test_whatever_a_pipeline_keeps_from_step_to_step(
    made: Any, options: dict[str, Any], repulsion: Repulsion, picture: Image.Image, off: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    tiny_qwen.small(monkeypatch)
    pipeline = made()
    if "Inpaint" in type(pipeline).__name__:
        options = {**options, "mask": Image.new("L", picture.size, 255)}
    edits = edit(picture, pipeline=pipeline, repulsion=repulsion, **options)
    assert off == [pytest.approx(0, abs=1e-5)]
    assert len({one.seed for one in edits}) == 4


def test_what_the_caller_changes_in_a_step_stays_changed(pipeline: Any, picture: Image.Image) -> None:
    """A callback that mixes the candidates of a step would mix others in a smaller batch."""

    def mix(pipe: Any, step: int, timestep: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        latents = tensors["latents"]
        return {"latents": latents + 0.1 * latents.mean(0) if step == 1 else latents}

    wide = edit(picture, pipeline=pipeline, callback_on_step_end=mix)
    ended = tiny.pixels(wide)
    again = edit(picture, pipeline=pipeline, callback_on_step_end=mix)
    assert (tiny.pixels(again) == ended).all()
    assert not (ended == tiny.pixels(edit(picture, pipeline=pipeline))).all()


def test_the_first_comes_when_all_are_through_the_window(pipeline: Any, picture: Image.Image) -> None:
    edit(picture, pipeline=pipeline, strength=0.0)
    rows = rows_given(pipeline)
    made = stream_edits(
        picture, tiny.WORDS, 4, pipeline=pipeline, seed=5, steps=6, batch_size=2, preserve="off", progress=False,
        repulsion=SETTINGS,
    )  # fmt: skip
    before = tiny.traces(pipeline)
    seen = []
    for one in made:
        seen.append((one.index, len(rows)))
        assert not left_behind(before, tiny.traces(pipeline))
    assert seen == [(0, 14), (1, 14), (2, 17), (3, 17)]
    assert (tiny.pixels(made.edits) == tiny.pixels(edit(picture, pipeline=pipeline))).all()


def test_a_batch_that_waited_and_runs_out_of_memory_is_halved(pipeline: Any, picture: Image.Image) -> None:
    whole, calls = edit(picture, pipeline=pipeline), [0]
    before = tiny.traces(pipeline)

    def refuse(module: Any, args: Any, call: dict[str, Any]) -> None:
        calls[0] += 1
        if calls[0] > 15 and len(call["hidden_states"]) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    handle = pipeline.transformer.register_forward_pre_hook(refuse, with_kwargs=True)
    halved = edit(picture, pipeline=pipeline)
    handle.remove()
    assert halved.recipe["batches"] == [[0, 1], [2], [3]]
    assert [one.seed for one in halved] == [one.seed for one in whole]
    assert abs(tiny.pixels(halved).astype(int) - tiny.pixels(whole)).max() <= 1  # kernels round by the size of a batch
    assert not left_behind(before, tiny.traces(pipeline))


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, torch.OutOfMemoryError])
@pytest.mark.parametrize("last", [7, 10])  # in a step that was answered before, and in one that was not
def test_what_ends_a_batch_that_waited_keeps_the_others(
    pipeline: Any, picture: Image.Image, error: type[BaseException], last: int
) -> None:
    edit(picture, pipeline=pipeline, strength=0.0)
    before = tiny.traces(pipeline)

    def stop(step: int, steps: int) -> None:
        if step == last:
            raise error("enough")

    with pytest.raises((error, ModelError)) as raised:
        edit(picture, pipeline=pipeline, on_step=stop)
    assert [one.index for one in raised.value.edits] == [0, 1]
    assert not left_behind(before, tiny.traces(pipeline))


def test_a_compiled_transformer(picture: Image.Image, off: list[float]) -> None:
    pipeline = tiny_pipeline()
    plainly = tiny.pixels(edit(picture, pipeline=pipeline, **SIZE))
    pipeline.transformer.compile(backend="eager")
    compiled = vars(pipeline.transformer)["_compiled_call_impl"]
    edits = edit(picture, pipeline=pipeline, **SIZE)
    assert vars(pipeline.transformer)["_compiled_call_impl"] is compiled
    assert (abs(tiny.pixels(edits).astype(int) - plainly) <= 1).all()
    assert off == [pytest.approx(0, abs=1e-5)] * 2


@pytest.mark.parametrize("kind", ["disk", "memory", "off"])
def test_where_the_bank_lies_changes_no_picture(pipeline: Any, picture: Image.Image, kind: str) -> None:
    usual = edit(picture, pipeline=pipeline)
    edits = edit(picture, pipeline=pipeline, bank=kind)
    assert (tiny.pixels(edits) == tiny.pixels(usual)).all()
    if kind != "off":
        assert len(edits.more(2, progress=False)) == 2


def test_what_passes_must_fit(pipeline: Any, picture: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    real = bank.psutil.virtual_memory()
    memory = SimpleNamespace(available=1000, total=real.total)
    monkeypatch.setattr(bank, "psutil", SimpleNamespace(virtual_memory=lambda: memory))
    edit(picture, pipeline=pipeline, strength=0.0)
    before = tiny.traces(pipeline)
    with pytest.raises(InputError, match=r"tokens of 8 candidates.* of the memory are free: take bank='disk'"):
        edit(picture, pipeline=pipeline, bank="off")
    assert not left_behind(before, tiny.traces(pipeline))
    edit(picture, pipeline=pipeline, bank="off", batch_size=4)  # on the device


@pytest.mark.parametrize(
    ("n", "size", "started"), [(6, 1, [12]), (11, 2, [22]), (14, 2, [12, 16]), (13, 5, [26]), (20, 5, [20, 20])]
)
def test_many_start_a_few_batches_at_a_time(
    pipeline: Any, picture: Image.Image, monkeypatch: pytest.MonkeyPatch, n: int, size: int, started: list[int]
) -> None:
    pools: list[int] = []
    original = rounds.Pool.at_work

    def noted(self: Any, transformer: Any) -> Any:
        pools.append(self.m)
        return original(self, transformer)

    monkeypatch.setattr(rounds.Pool, "at_work", noted)
    edits = edit(picture, pipeline=pipeline, n=n, batch_size=size)
    assert pools == started
    assert edits.recipe["batches"] == [[*range(i, min(i + size, n))] for i in range(0, n, size)]
    assert len({one.image.tobytes() for one in edits}) == n


def test_retries_start_together(pipeline: Any, picture: Image.Image) -> None:
    options = {"on_unfaithful": "retry", "retries": 1, "preserve": [Nothing()]}
    rows = rows_given(pipeline)
    edits = edit(picture, pipeline=pipeline, **options)
    assert rows == [2] * (2 * 17)
    assert {one.seed for one in edits} <= {*range(13, 21)}


def test_a_strategy_that_forgets_the_bank(pipeline: Any, picture: Image.Image) -> None:
    with pytest.raises(PluginError, match=r"does not hand run\.bank to `repelled`, so that the candidates of a pool"):
        edit(picture, pipeline=pipeline, strategy=Forgetful())


def test_a_pipeline_with_a_limit_has_no_pool(
    pipeline: Any, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan.catalog, "adapter_for", lambda pipeline: OneByOne())
    with pytest.raises(
        InputError, match=r"oversample is 2, but pipelines of .* make at most 1 at once: take oversample=1"
    ):
        edit(picture, pipeline=pipeline)
    edits = diverse_edit(picture, tiny.WORDS, n=2, pipeline=pipeline, seed=0, preserve="off", progress=False)
    assert edits.recipe["batches"] == [[0], [1]]
    assert "started" not in edits.recipe
