"""Stable Diffusion 3: the adapters of four pipelines, and editing by instruction."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import tiny_sd3
import torch
from ctxrep_adapters.sd3_instruct import StableDiffusion3InstructPix2PixPipeline as InstructPipeline
from diffusers import StableDiffusion3Img2ImgPipeline, StableDiffusion3InpaintPipeline
from PIL import Image
from torch import Tensor

from ctxrep_edit import EditSet, InputError, Repulsion, catalog, diverse_edit, load_pipeline
from ctxrep_edit.hooks import NAME

edit = functools.partial(
    diverse_edit, instruction=tiny.WORDS, n=2, seed=0, preserve="off", progress=False, width=48, height=32,
    steps=4, max_sequence_length=tiny.LENGTH,
)  # fmt: skip
GUIDED = {
    "StableDiffusion3InstructPix2PixPipeline": {"guidance_scale": 3.0, "image_guidance_scale": 1.5},
}
OFF = {"guidance_scale": 1.0}


@pytest.fixture(params=tiny_sd3.CLASSES, ids=lambda cls: cls.__name__)
def pipeline(request: pytest.FixtureRequest) -> Iterator[Any]:
    made = tiny_sd3.pipeline(request.param)
    scheduler = made.scheduler
    yield made
    assert made.scheduler is scheduler
    for module in made.transformer.modules():
        assert NAME not in getattr(getattr(module, "_diffusers_hook", None), "hooks", {})
        assert "forward" not in module.__dict__


@pytest.fixture
def options(pipeline: Any, picture: Image.Image) -> dict[str, Any]:
    """Guidance on, and a mask where the pipeline asks for one."""
    mask = Image.new("L", picture.size, 255)
    return {
        "pipeline": pipeline,
        "mask": mask if "Inpaint" in type(pipeline).__name__ else None,
        **GUIDED.get(type(pipeline).__name__, {"guidance_scale": 3.0}),
    }


def pixels(edits: EditSet) -> np.ndarray:
    return np.stack([np.asarray(image) for image in edits.images]).astype(int)


def outputs(pipeline: Any, call: Any) -> list[list[tuple[Tensor, Tensor]]]:
    """What each block returned, step by step."""
    seen: list[list[tuple[Tensor, Tensor]]] = [[] for _ in pipeline.transformer.transformer_blocks]
    handles = [
        block.register_forward_hook(lambda module, args, out, i=i: seen[i].append(out))
        for i, block in enumerate(pipeline.transformer.transformer_blocks)
    ]
    try:
        call()
    finally:
        for handle in handles:
            handle.remove()
    return seen


def test_it_edits(picture: Image.Image, options: dict[str, Any]) -> None:
    plain, moved = (edit(picture, strength=strength, **{**options, "preserve": "auto"}) for strength in (0.0, 1.0))
    assert plain.contextual_vendi is None
    assert moved.contextual_vendi[1] > moved.contextual_vendi[0]
    assert moved.recipe["size"] == [48, 32]
    anchored = Repulsion(scope="generated", anchor=True)
    first, second = pixels(edit(picture, repulsion=anchored, **options))
    assert np.array_equal(first, pixels(plain)[0])
    assert not np.array_equal(second, pixels(plain)[1])


def test_edits_are_in_order_and_come_from_their_own_noise(picture: Image.Image, options: dict[str, Any]) -> None:
    two, three = (pixels(edit(picture, strength=0, **{**options, "n": n})) for n in (2, 3))
    assert np.abs(two - three[:2]).max() <= 1  # other batch sizes, other kernels
    assert np.abs(three[0] - three[1]).max() > 1


@pytest.mark.parametrize("scope", ["context", "generated", "paper"])
def test_only_the_chosen_tokens_of_the_instructed_rows_move(
    pipeline: Any, picture: Image.Image, options: dict[str, Any], scope: str
) -> None:
    """After the first block, before what moved has spread."""
    settings = Repulsion(scope=scope)
    before = outputs(pipeline, lambda: edit(picture, strength=0, **options))
    after = outputs(pipeline, lambda: edit(picture, repulsion=settings, **options))
    adapter = catalog.adapter_for(pipeline)
    words = adapter.instruction(pipeline, {"prompt": tiny.WORDS, "max_sequence_length": tiny.LENGTH})
    text, image = ((a != b).any(-1) for a, b in zip(before[0][0], after[0][0], strict=True))  # (batch, tokens)
    parts = adapter.guidance
    assert len(text) == 2 * len(parts)
    for i, part in enumerate(parts):
        rows = slice(2 * i, 2 * i + 2)
        if part == "unconditional":
            assert not text[rows].any()
            assert not image[rows].any()
            continue
        wanted = torch.ones_like(words) if scope == "paper" else words
        assert torch.equal(text[rows].any(0), wanted)
        assert bool(image[rows].all()) == (scope == "generated")
        assert bool(image[rows].any()) == (scope == "generated")


def test_the_untouched_parts_of_the_batch_stay_bit_identical(
    pipeline: Any, picture: Image.Image, options: dict[str, Any]
) -> None:
    """In every block of the first step."""
    before = outputs(pipeline, lambda: edit(picture, strength=0, **options))
    after = outputs(pipeline, lambda: edit(picture, strength=3, **options))
    parts = catalog.adapter_for(pipeline).guidance
    for plain, moved in zip(before, after, strict=True):
        for one, other in zip(plain[0], moved[0], strict=True):
            if one is None:  # the last block's text
                assert other is None
                continue
            for i, part in enumerate(parts):
                rows = slice(2 * i, 2 * i + 2)
                assert torch.equal(one[rows], other[rows]) == (part == "unconditional")


def test_without_guidance_the_batch_is_single(pipeline: Any, picture: Image.Image, options: dict[str, Any]) -> None:
    seen = outputs(pipeline, lambda: edit(picture, strength=1, **{**options, **OFF}))
    assert {len(out[1]) for block in seen for out in block} == {2}


def test_both_halves_as_the_paper_has_it(pipeline: Any, picture: Image.Image, options: dict[str, Any]) -> None:
    before = outputs(pipeline, lambda: edit(picture, strength=0, **options))
    settings = Repulsion(scope="paper", guidance="both", iterations=100)
    after = outputs(pipeline, lambda: edit(picture, repulsion=settings, **options))
    assert (before[0][0][0] != after[0][0][0]).any(-1).any(-1).all()


def test_interrupted_it_leaves_no_trace(picture: Image.Image, options: dict[str, Any]) -> None:
    def stop(step: int, steps: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # what is left behind, the fixture looks for
        edit(picture, on_step=stop, **options)


def test_without_t5_its_tokens_are_padding(picture: Image.Image) -> None:
    pipeline = tiny_sd3.pipeline(InstructPipeline, t5=False)
    words = catalog.adapter_for(pipeline).instruction(pipeline, {"prompt": tiny.WORDS, "max_sequence_length": 8})
    assert words.shape == (pipeline.tokenizer_max_length + 8,)
    assert words[: pipeline.tokenizer_max_length].any()
    assert not words[pipeline.tokenizer_max_length :].any()
    assert edit(picture, pipeline=pipeline).contextual_vendi is not None


@pytest.mark.parametrize("cls", [StableDiffusion3InpaintPipeline, tiny_sd3.CLASSES[2]])
def test_inpainting_needs_a_mask(cls: type, picture: Image.Image) -> None:
    with pytest.raises(InputError, match=f"{cls.__name__} edits inside a mask and was given none: give mask="):
        edit(picture, pipeline=tiny_sd3.pipeline(cls))


def test_denoising_strength(picture: Image.Image) -> None:
    pipeline, steps = tiny_sd3.pipeline(StableDiffusion3Img2ImgPipeline), []
    edits = edit(picture, pipeline=pipeline, denoising_strength=0.5, on_step=lambda step, all_: steps.append(all_))
    assert steps == [2, 2]
    assert edits.contextual_vendi is not None


# Editing by instruction


def test_the_pipeline_is_saved_and_loaded_under_its_name(tmp_path: Path, picture: Image.Image) -> None:
    made = tiny_sd3.pipeline(InstructPipeline)
    made.save_pretrained(tmp_path / "model")
    for loaded in (InstructPipeline.from_pretrained(tmp_path / "model"), load_pipeline(tmp_path / "model")):
        assert type(loaded) is InstructPipeline
        one, other = (edit(picture, pipeline=pipe, strength=0) for pipe in (made, loaded))
        assert np.array_equal(pixels(one), pixels(other))


def test_guidance_follows_its_equation(picture: Image.Image) -> None:
    """One step from known noise, against the three predictions put together by hand."""
    pipe = tiny_sd3.pipeline(InstructPipeline)
    calls: list[Tensor] = []
    handle = pipe.transformer.register_forward_hook(lambda module, args, out: calls.append(out[0]))
    noise = torch.randn(1, tiny_sd3.CHANNELS, 8, 12, generator=torch.Generator().manual_seed(0))
    options = {"num_inference_steps": 1, "output_type": "latent", "latents": noise, "max_sequence_length": 16}
    out = pipe(tiny.WORDS, picture, height=32, width=48, guidance_scale=4.0, image_guidance_scale=2.0, **options)
    handle.remove()
    full, source, none = calls[0].chunk(3)
    expected = noise - (none + 4.0 * (full - source) + 2.0 * (source - none))  # sigma falls from 1 to 0
    assert torch.allclose(out.images, expected, atol=1e-5)


def test_a_checkpoint_with_channels_for_a_mask(picture: Image.Image) -> None:
    pipe = tiny_sd3.pipeline(InstructPipeline, pictures=3)
    left, right = (Image.linear_gradient("L").rotate(angle).resize(picture.size) for angle in (90, 270))
    one, other = (pixels(edit(picture, pipeline=pipe, mask=mask)) for mask in (left, right))
    assert not np.array_equal(one, other)
    with pytest.raises(InputError, match="edits inside a mask and was given none"):
        edit(picture, pipeline=pipe)


def test_inputs_that_do_not_fit(picture: Image.Image) -> None:
    pipe = tiny_sd3.pipeline(InstructPipeline)
    with pytest.raises(ValueError, match="no channels for a mask: leave mask_img out"):
        pipe(tiny.WORDS, picture, mask_img=picture)
    with pytest.raises(ValueError, match="no picture to edit: give image="):
        pipe(tiny.WORDS)
    with pytest.raises(ValueError, match="2 pictures do not fit a batch of 3"):
        pipe(tiny.WORDS, [picture, picture], num_images_per_prompt=3, max_sequence_length=16, guidance_scale=1.0)
    with pytest.raises(ValueError, match="has 16 input channels, but an instruction-edited SD3 has 32"):
        tiny_sd3.pipeline(InstructPipeline, pictures=1)(tiny.WORDS, picture)


def test_callbacks_and_output_types(picture: Image.Image) -> None:
    pipe = tiny_sd3.pipeline(InstructPipeline)
    seen: list[tuple[int, list[str]]] = []

    def after(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        seen.append((step, sorted(tensors)))
        pipeline._interrupt = step == 1
        return {"latents": torch.zeros_like(tensors["latents"])}

    call = functools.partial(pipe, tiny.WORDS, picture, max_sequence_length=16, num_inference_steps=4)
    names = ["latents", "image_latents"]
    done = call(callback_on_step_end=after, callback_on_step_end_tensor_inputs=names, output_type="latent")
    assert seen == [(0, sorted(names)), (1, sorted(names))]
    assert not done.images.any()
    (pictures,) = call(return_dict=False)
    assert pictures[0].size == (40, 24)  # what the transformer can do of 40 x 30
    with pytest.raises(ValueError, match="callback_on_step_end_tensor_inputs"):
        call(callback_on_step_end_tensor_inputs=["nonsense"])


def test_half_precision(picture: Image.Image) -> None:
    pipe = tiny_sd3.pipeline(InstructPipeline).to(torch.bfloat16)
    assert edit(picture, pipeline=pipe).contextual_vendi is not None
