"""Editing by instruction with Stable Diffusion 3: the pipeline, and the UltraEdit checkpoints' convention."""

import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import tiny_sd3
import torch
from ctxrep_adapters import sd3
from ctxrep_adapters.sd3_instruct import StableDiffusion3InstructPix2PixPipeline as InstructPipeline
from PIL import Image
from torch import Tensor

from ctxrep_edit import EditSet, diverse_edit, load_pipeline

SIZE = {"height": 32, "width": 48, "max_sequence_length": tiny.LENGTH}
CHANNELS = tiny_sd3.CHANNELS
edit = functools.partial(
    diverse_edit, instruction=tiny.WORDS, n=2, seed=0, preserve="off", progress=False, steps=4, **SIZE
)  # fmt: skip


@pytest.fixture(scope="module")
def pipe() -> Any:
    made = tiny_sd3.pipeline(InstructPipeline)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def masked() -> Any:
    """Of a checkpoint with channels for a mask."""
    made = tiny_sd3.pipeline(InstructPipeline, pictures=3)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture
def asked(pipe: Any, masked: Any) -> Iterator[list[Tensor]]:
    """What the transformers were asked: (batch, channels, h, w) of each call."""
    calls: list[Tensor] = []
    handles = [
        one.transformer.register_forward_pre_hook(
            lambda module, args, call: calls.append(call["hidden_states"]), with_kwargs=True
        )
        for one in (pipe, masked)
    ]
    yield calls
    for handle in handles:
        handle.remove()


def pixels(edits: EditSet) -> np.ndarray:
    return np.stack([np.asarray(image) for image in edits.images]).astype(int)


def mode(pipeline: Any, picture: Image.Image) -> Tensor:
    """What the autoencoder makes of a picture: (1, channels, 8, 12)."""
    return pipeline.vae.encode(pipeline.image_processor.preprocess(picture, height=32, width=48)).latent_dist.mode()


def once(pipeline: Any, picture: Any, **options: Any) -> Any:
    """One step without guidance."""
    options = {"num_inference_steps": 1, "guidance_scale": 1.0, **SIZE, **options}
    return pipeline(tiny.WORDS, picture, generator=torch.Generator().manual_seed(0), **options).images


# The convention


@pytest.mark.parametrize("normalized", [False, True])
def test_the_latents_are_those_it_was_trained_on(picture: Image.Image, normalized: bool) -> None:
    """UltraEdit: source raw, edit without the shift. Ours: shift and scale on all."""
    pipe = tiny_sd3.pipeline(InstructPipeline, normalized_latents=normalized)
    vae = pipe.vae.config
    assert vae.shift_factor != 0 != vae.scaling_factor - 1
    calls: list[Tensor] = []
    pipe.transformer.register_forward_pre_hook(
        lambda module, args, call: calls.append(call["hidden_states"]), with_kwargs=True
    )
    latents = once(pipe, picture, output_type="latent")
    source = mode(pipe, picture)
    expected = (source - vae.shift_factor) * vae.scaling_factor if normalized else source
    assert torch.equal(calls[0][:, CHANNELS:], expected)
    made = once(pipe, picture, output_type="pt")
    decoded = pipe.vae.decode(latents / vae.scaling_factor + normalized * vae.shift_factor).sample
    assert torch.allclose(made, (decoded / 2 + 0.5).clamp(0, 1), atol=1e-6)


def test_the_pipeline_is_saved_and_loaded_under_its_name(tmp_path: Path, picture: Image.Image) -> None:
    made = tiny_sd3.pipeline(InstructPipeline, normalized_latents=True)
    made.save_pretrained(tmp_path / "model")
    index = json.loads((tmp_path / "model" / "model_index.json").read_text("utf-8"))
    assert index["_class_name"] == "StableDiffusion3InstructPix2PixPipeline"
    assert index["normalized_latents"] is True
    for loaded in (InstructPipeline.from_pretrained(tmp_path / "model"), load_pipeline(tmp_path / "model")):
        assert type(loaded) is InstructPipeline
        assert loaded.config.normalized_latents is True
        one, other = (edit(picture, pipeline=pipe, strength=0) for pipe in (made, loaded))
        assert np.array_equal(pixels(one), pixels(other))


def test_a_folder_that_states_nothing_is_as_ultraedit_was_trained(tmp_path: Path) -> None:
    tiny_sd3.pipeline(InstructPipeline, normalized_latents=True).save_pretrained(tmp_path)
    file = tmp_path / "model_index.json"
    index = json.loads(file.read_text("utf-8"))
    del index["normalized_latents"], index["image_encoder"], index["feature_extractor"]
    file.write_text(json.dumps(index), "utf-8")
    assert load_pipeline(tmp_path).config.normalized_latents is False


def test_other_models_are_loaded_without_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def classes(self: Any) -> list[type]:
        raise AssertionError("nobody asked for this pipeline")

    monkeypatch.setattr(sd3.Instruct, "classes", classes)
    assert type(load_pipeline(folder)).__name__ == "FluxKontextPipeline"


# The call


@pytest.mark.parametrize("pictures", [2, 3], ids=["freeform", "with a mask"])
def test_guidance_follows_its_equation(pipe: Any, masked: Any, picture: Image.Image, pictures: int) -> None:
    """One step from known noise, against the three predictions put together by hand."""
    pipe = masked if pictures == 3 else pipe
    seen: list[tuple[Any, Tensor]] = []
    handle = pipe.transformer.register_forward_hook(
        lambda module, args, call, out: seen.append((call, out[0])), with_kwargs=True
    )
    noise = torch.randn(1, CHANNELS, 8, 12, generator=torch.Generator().manual_seed(0))
    options = {"guidance_scale": 4.0, "image_guidance_scale": 2.0, "output_type": "latent"}
    out = pipe(tiny.WORDS, picture, num_inference_steps=1, latents=noise, **options, **SIZE).images
    handle.remove()
    call, predicted = seen[0]
    full, source, none = predicted.chunk(3)
    expected = noise - (none + 4.0 * (full - source) + 2.0 * (source - none))  # sigma falls from 1 to 0
    assert torch.allclose(out, expected, atol=1e-5)
    asked, words, pooled = (call[k] for k in ("hidden_states", "encoder_hidden_states", "pooled_projections"))
    assert asked.shape[1] == pictures * CHANNELS
    assert torch.equal(asked[:, :CHANNELS], noise.repeat(3, 1, 1, 1))
    assert torch.equal(asked[0, CHANNELS:], asked[1, CHANNELS:])
    assert asked[1, CHANNELS:].any()
    assert not asked[2, CHANNELS:].any()
    for given in (words, pooled):
        assert torch.equal(given[1], given[2])
        assert not torch.equal(given[0], given[1])


def test_several_pictures_and_several_images_of_each(pipe: Any, picture: Image.Image) -> None:
    """Image i is of prompt and picture i // 2, from generator i."""
    prompts, pictures = [tiny.WORDS, "make it night"], [picture, picture.rotate(180)]
    options = {**SIZE, "num_inference_steps": 2, "guidance_scale": 3.0, "output_type": "pt"}
    together = pipe(
        prompts, pictures, num_images_per_prompt=2, generator=[torch.Generator().manual_seed(i) for i in range(4)],
        **options,
    ).images  # fmt: skip
    assert together.shape == (4, 3, 32, 48)
    for i in range(4):
        alone = pipe(prompts[i // 2], pictures[i // 2], generator=torch.Generator().manual_seed(i), **options).images
        assert torch.allclose(together[i], alone[0], atol=1e-4)


def test_a_mask_is_a_third_picture_and_white_unless_given(
    masked: Any, picture: Image.Image, asked: list[Tensor]
) -> None:
    given = Image.linear_gradient("L").resize((48, 32))
    for mask in (given, None):
        once(masked, picture, mask_img=mask)
    for call, expected in zip(asked, (given.convert("RGB"), Image.new("RGB", (48, 32), "white")), strict=True):
        source, mask = call[:, CHANNELS:].chunk(2, 1)
        assert torch.equal(source, mode(masked, picture))
        assert torch.equal(mask, mode(masked, expected))


def test_the_mask_of_an_edit_reaches_the_checkpoint(masked: Any, picture: Image.Image) -> None:
    left, right = (Image.linear_gradient("L").rotate(angle).resize(picture.size) for angle in (90, 270))
    one, other, none = (pixels(edit(picture, pipeline=masked, mask=mask)) for mask in (left, right, None))
    assert not np.array_equal(one, other)
    assert not np.array_equal(one, none)


def test_a_mask_without_channels_for_it_is_for_the_check_alone(pipe: Any, picture: Image.Image) -> None:
    mask = Image.linear_gradient("L").resize(picture.size)
    one, other = (pixels(edit(picture, pipeline=pipe, mask=given)) for given in (mask, None))
    assert np.array_equal(one, other)


GREY = Image.linear_gradient("L").resize((48, 32))


@pytest.mark.parametrize(
    "given",
    [
        GREY,
        GREY.convert("RGBA"),
        GREY.convert("P"),
        [GREY],
        np.asarray(GREY) / np.float32(255),
        np.asarray(GREY.convert("RGB")) / np.float32(255),
        torch.from_numpy(np.asarray(GREY) / np.float32(255))[None, None],
    ],
    ids=["L", "RGBA", "P", "list", "grey array", "array", "grey tensor"],
)
def test_pictures_of_any_kind(pipe: Any, asked: list[Tensor], given: Any) -> None:
    pipe(tiny.WORDS, given, num_inference_steps=1, guidance_scale=1.0, max_sequence_length=tiny.LENGTH)
    assert torch.allclose(asked[0][:, CHANNELS:], mode(pipe, GREY.convert("RGB")), atol=1e-5)


def test_transparency_is_laid_on_white(pipe: Any, asked: list[Tensor]) -> None:
    once(pipe, Image.new("RGBA", (48, 32), (0, 0, 0, 0)))
    assert torch.equal(asked[0][:, CHANNELS:], mode(pipe, Image.new("RGB", (48, 32), "white")))


def test_inputs_that_do_not_fit(pipe: Any, picture: Image.Image) -> None:
    def refused(message: str, *args: Any, pipeline: Any = pipe, **options: Any) -> None:
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            pipeline(tiny.WORDS, *args, max_sequence_length=tiny.LENGTH, **options)

    refused("This checkpoint has no channels for a mask: leave mask_img out.", picture, mask_img=picture)
    refused("There is no picture to edit: give image=.")
    refused("There is no picture to edit: give image=.", [])
    refused("image_guidance_scale is 0.5, but must be at least 1.", picture, image_guidance_scale=0.5)
    refused(
        "2 pictures do not fit a batch of 3: give one, or one per prompt.",
        [picture, picture], num_images_per_prompt=3, guidance_scale=1.0,
    )  # fmt: skip
    refused("A picture has 4 channels: give RGB or grey, or a PIL image of any mode.", torch.zeros(1, 4, 32, 48))
    refused(
        "The transformer has 16 input channels, but an instruction-edited SD3 has 32 (noise and source) or 48 (noise, "
        "source and mask): load a checkpoint of that kind.",
        picture, pipeline=tiny_sd3.pipeline(InstructPipeline, pictures=1),
    )  # fmt: skip


def test_callbacks_and_output_types(pipe: Any, picture: Image.Image) -> None:
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
