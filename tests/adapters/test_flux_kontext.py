"""The adapter of FLUX.1 Kontext, on both of its pipelines."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from conftest import both
from ctxrep_adapters.flux_kontext import FluxKontext
from diffusers import FluxKontextInpaintPipeline
from PIL import Image

from ctxrep_edit import EditSet, InputError, Request, diverse_edit

Record = dict[str, Any]
edit = functools.partial(diverse_edit, instruction=tiny.WORDS, n=2, seed=0, preserve="off", progress=False)
inpaint = pytest.mark.parametrize("pipeline", [FluxKontextInpaintPipeline], indirect=True)


def pixels(edits: EditSet) -> np.ndarray:
    return np.stack([np.asarray(image) for image in edits.images])


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[Record]]:
    """Records the keyword arguments of each call of a pipeline."""

    def start(pipeline: Any) -> list[Record]:
        records: list[Record] = []
        original = type(pipeline).__call__

        @functools.wraps(original)
        def call(self: Any, **kwargs: Any) -> Any:
            records.append(kwargs)
            return original(self, **kwargs)

        monkeypatch.setattr(type(pipeline), "__call__", call)
        return records

    return start


@both
@pytest.mark.parametrize("autoencoder", ["tiny", "kl"])
def test_edits_through_both_pipelines(pipeline: Any, picture: Image.Image, autoencoder: str) -> None:
    pipeline.vae = tiny.autoencoder(autoencoder)
    mask = Image.new("L", picture.size, 255)
    plain, moved = (
        edit(picture, pipeline=pipeline, strength=strength, mask=mask, preserve="auto") for strength in (0, 1)
    )
    assert len(moved) == 2
    assert plain.contextual_vendi is None
    assert moved.contextual_vendi is not None
    assert {entry.verdict.details["region"] for entry in moved if entry.verdict} == {"whole"}
    if autoencoder == "tiny":  # the other one paints everything grey
        assert not np.array_equal(pixels(plain), pixels(moved))


@both
@pytest.mark.parametrize("size", [(20, 15), (400, 300)])
def test_the_reference_is_as_large_as_the_edit(pipeline: Any, size: tuple[int, int]) -> None:
    shapes: list[torch.Size] = []
    pipeline.transformer.register_forward_pre_hook(
        lambda module, args, call: shapes.append(call["hidden_states"].shape), with_kwargs=True
    )
    picture, mask = Image.new("RGB", size, "teal"), Image.new("L", size, 255)
    edits = edit(picture, pipeline=pipeline, mask=mask)
    assert edits.recipe["size"] == [48, 32]
    assert {shape[1] for shape in shapes} == {2 * 6 * 4}


def test_without_a_profile_it_edits_at_a_size_that_kontext_knows(pipeline: Any) -> None:
    adapter = FluxKontext()
    assert adapter.size(pipeline, 300, 300) == (1024, 1024)
    for width, height in ((40, 30), (3, 4), (9000, 100)):
        w, h = adapter.size(pipeline, width, height)
        assert (w > h) == (width > height)
        assert w % 8 == h % 8 == 0
        assert w * h == pytest.approx(2**20, rel=0.1)


def test_which_tokens_carry_the_instruction(pipeline: Any) -> None:
    adapter, embeds = FluxKontext(), torch.zeros(1, tiny.LENGTH, 4)
    call = {"prompt": tiny.WORDS, "max_sequence_length": tiny.LENGTH}
    found = adapter.instruction(pipeline, call)
    assert found is not None
    assert found.tolist() == [True] * tiny.TOKENS + [False] * (tiny.LENGTH - tiny.TOKENS)
    longer = adapter.instruction(pipeline, {**call, "prompt_2": tiny.WORDS + " to night"})  # what T5 reads
    assert longer is not None
    assert longer.sum() == tiny.TOKENS + 2
    default = adapter.instruction(pipeline, {"prompt": tiny.WORDS})
    assert default is not None
    assert default.shape == (512,)
    assert adapter.instruction(pipeline, {**call, "prompt_embeds": embeds}) is None


def test_a_mask_goes_to_the_inpainting_pipeline_alone(pipeline: Any, picture: Image.Image, calls: Any) -> None:
    records = calls(pipeline)
    edit(picture, pipeline=pipeline, mask=Image.new("L", picture.size, 255))
    assert "mask_image" not in records[0]


@inpaint
def test_inpainting(pipeline: Any, picture: Image.Image, calls: Any) -> None:
    records, seen, latents = calls(pipeline), [], []

    def keep(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        latents.append(tensors["latents"].unflatten(1, (4, 6)))  # (n, rows, columns, channels)
        return tensors

    mask = Image.new("L", picture.size, 0)
    mask.paste(255, (0, 0, 20, 30))
    options = {"mask": mask, "denoising_strength": 0.5, "on_step": lambda step, steps: seen.append((step, steps))}
    edit(picture, pipeline=pipeline, callback_on_step_end=keep, **options)
    (record,) = records
    assert record["strength"] == 0.5
    assert record["mask_image"].size == record["image"].size == (48, 32)
    assert np.asarray(record["mask_image"]).mean() == pytest.approx(127.5, abs=1)
    assert seen == [(1, 2), (2, 2)]
    one, two = latents[-1]
    assert not torch.equal(one[:, :3], two[:, :3])
    assert torch.equal(one[:, 3:], two[:, 3:])  # the source


@both
def test_the_options_of_the_pipeline_pass_through(pipeline: Any, picture: Image.Image, calls: Any) -> None:
    records, steps = calls(pipeline), []

    def theirs(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        steps.append(sorted(tensors))
        return tensors

    options = {
        "negative_prompt": "add a frame",
        "true_cfg_scale": 1.5,
        "prompt_2": "change the style",
        "max_sequence_length": 12,
        "sigmas": [1.0, 0.5],
        "callback_on_step_end_tensor_inputs": ["latents", "prompt_embeds"],
        "joint_attention_kwargs": {},
    }
    edit(
        picture,
        pipeline=pipeline,
        mask=Image.new("L", picture.size, 255),
        steps=2,
        callback_on_step_end=theirs,
        **options,
    )
    assert {name: records[0][name] for name in options} == options
    assert records[0]["num_inference_steps"] == 2
    assert steps == [["latents", "prompt_embeds"]] * 2


def test_their_callback_can_change_the_latents(pipeline: Any, picture: Image.Image) -> None:
    def grey(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        return {"latents": torch.zeros_like(tensors["latents"])}

    one, two = pixels(edit(picture, pipeline=pipeline, callback_on_step_end=grey))
    assert np.array_equal(one, two)


def test_embedded_guidance_has_its_effect(pipeline: Any, picture: Image.Image) -> None:
    pipeline.transformer = tiny.transformer(guidance_embeds=True)
    weak, strong = (pixels(edit(picture, pipeline=pipeline, guidance_scale=scale)) for scale in (1.0, 9.0))
    assert not np.array_equal(weak, strong)


@pytest.mark.parametrize("rows", [1, 2])
def test_embeddings_in_place_of_words(pipeline: Any, picture: Image.Image, rows: int) -> None:
    words = edit(picture, pipeline=pipeline, strength=0)
    text, pooled, _ = pipeline.encode_prompt(
        tiny.WORDS, None, num_images_per_prompt=rows, max_sequence_length=tiny.LENGTH
    )
    options = {"prompt_embeds": text, "pooled_prompt_embeds": pooled}
    same = edit(picture, pipeline=pipeline, strength=0, **options)
    assert np.array_equal(pixels(words), pixels(same))
    assert edit(picture, pipeline=pipeline, **options).contextual_vendi is not None


@both
@pytest.mark.parametrize(
    ("options", "size"),
    [({"width": 64, "height": 48}, [64, 48]), ({"width": 63, "height": 40}, [56, 40]), ({"width": 32}, [32, 32])],
)
def test_a_size_of_ones_own(pipeline: Any, picture: Image.Image, options: dict[str, int], size: list[int]) -> None:
    mask = Image.new("L", picture.size, 255)
    edits = edit(picture, pipeline=pipeline, mask=mask, preserve="auto", **options)
    assert edits.recipe["size"] == size
    assert edits[0].image.width / edits[0].image.height == pytest.approx(4 / 3, rel=0.05)


@inpaint
def test_inpainting_needs_a_mask(pipeline: Any, picture: Image.Image) -> None:
    with pytest.raises(InputError, match=r"edits inside a mask and was given none: give mask="):
        edit(picture, pipeline=pipeline)


def test_denoising_strength_belongs_to_inpainting(pipeline: Any, picture: Image.Image) -> None:
    with pytest.raises(InputError, match="FluxKontextPipeline has no option 'denoising_strength'"):
        edit(picture, pipeline=pipeline, denoising_strength=0.5)


def test_the_request_alone_makes_the_call(pipeline: Any, picture: Image.Image) -> None:
    generators = [torch.Generator().manual_seed(i) for i in range(3)]
    request = Request(picture, "make it night", generators, (48, 32), None, None)
    arguments = FluxKontext().arguments(pipeline, request)
    assert arguments["generator"] == generators
    assert arguments["num_images_per_prompt"] == 3
    assert "num_inference_steps" not in arguments  # the pipeline's own default
    assert not {"mask_image", "output_type"} & set(arguments)
