"""Stable Diffusion 3: the adapters of four pipelines."""

import functools
from collections.abc import Iterator
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

from ctxrep_edit import EditSet, InputError, Repulsion, diverse_edit, repelled
from ctxrep_edit.plugins import catalog
from ctxrep_edit.repulsion.registry import NAME

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
    settings = Repulsion(scope=scope, anchor=False)
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
    after = outputs(pipeline, lambda: edit(picture, strength=3, scope="generated", **options))
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
    options = {name: value for name, value in options.items() if name != "image_guidance_scale"} | OFF
    seen = outputs(pipeline, lambda: edit(picture, strength=1, **options))
    assert {len(out[1]) for block in seen for out in block} == {2}


def test_the_last_block_returns_no_text_and_is_left_alone(pipeline: Any) -> None:
    """It would be moved through its image tokens otherwise."""
    blocks = pipeline.transformer.transformer_blocks
    text = torch.randn(2, 5, tiny_sd3.WIDTH, generator=torch.Generator().manual_seed(0))
    with repelled(pipeline, Repulsion(scope="generated"), particles=2) as run:
        run.repelling = True
        run.clock.parts = ("conditional",)
        for block, none in zip(blocks, (False, False, True), strict=True):
            assert block.context_pre_only == none
            args = {"hidden_states": text, "encoder_hidden_states": text, "temb": text[:, 0]}
            words, image = block(**args)
            assert (words is None) == none
            if none:
                assert torch.equal(image, type(block).forward(block, **args)[1])
    assert len(run.vendi) == tiny_sd3.BLOCKS - 1


@pytest.mark.parametrize("dual", [(), tiny_sd3.DUAL], ids=["SD3", "SD3.5"])
def test_blocks_with_one_attention_and_with_two(picture: Image.Image, dual: tuple[int, ...]) -> None:
    transformer = tiny_sd3.transformer(dual=dual)
    assert tuple(i for i, block in enumerate(transformer.transformer_blocks) if block.use_dual_attention) == dual
    pipe = tiny_sd3.pipeline(StableDiffusion3Img2ImgPipeline, transformer=transformer)
    plain, moved = (edit(picture, pipeline=pipe, strength=strength, guidance_scale=3.0) for strength in (0, 1))
    assert not np.array_equal(pixels(plain), pixels(moved))
    before, after = moved.contextual_vendi
    assert after > before


def test_both_halves_as_the_paper_has_it(pipeline: Any, picture: Image.Image, options: dict[str, Any]) -> None:
    before = outputs(pipeline, lambda: edit(picture, strength=0, **options))
    settings = Repulsion(scope="paper", guidance="both", iterations=100, anchor=False)
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


def test_the_same_seed_gives_the_same_edits_whatever_was_drawn_before(
    picture: Image.Image, options: dict[str, Any]
) -> None:
    """ControlNet inpainting draws from torch's own generator, which is the caller's."""
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    one = pixels(edit(picture, **options))
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    assert np.array_equal(one, pixels(edit(picture, **options)))


@pytest.mark.parametrize(
    ("cls", "expected"), [(StableDiffusion3Img2ImgPipeline, (1248, 832)), (InstructPipeline, (624, 416))]
)
def test_the_size_that_it_works_at(cls: type, expected: tuple[int, int]) -> None:
    """About 1024 x 1024 pixels; 512 x 512 for editing by instruction, or less where the transformer is smaller."""
    big, small = (tiny_sd3.pipeline(cls) for _ in range(2))
    big.default_sample_size = 1024 // big.vae_scale_factor
    adapter = catalog.adapter_for(big)
    width, height = adapter.size(big, 1500, 1000)
    assert abs(width - expected[0]) <= 8
    assert abs(height - expected[1]) <= 8
    assert adapter.size(small, 30, 30) == ((64, 64) if cls is InstructPipeline else (1024, 1024))


@pytest.mark.parametrize("cls", [StableDiffusion3InpaintPipeline, tiny_sd3.CLASSES[2]])
def test_inpainting_needs_a_mask(cls: type, picture: Image.Image) -> None:
    with pytest.raises(InputError, match=f"{cls.__name__} edits inside a mask and was given none: give mask="):
        edit(picture, pipeline=tiny_sd3.pipeline(cls))


def test_denoising_strength(picture: Image.Image) -> None:
    pipeline, steps = tiny_sd3.pipeline(StableDiffusion3Img2ImgPipeline), []
    edits = edit(picture, pipeline=pipeline, denoising_strength=0.5, on_step=lambda step, all_: steps.append(all_))
    assert steps == [2, 2]
    assert edits.contextual_vendi is not None
