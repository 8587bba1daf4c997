"""Options that go to the pipeline's own call: what is the caller's to say, and what is not."""

from typing import Any

import pytest
import tiny
import tiny_sd3
import torch
from diffusers import StableDiffusion3Img2ImgPipeline, StableDiffusion3InpaintPipeline
from PIL import Image

from ctxrep_edit import InputError


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"max_area": 32 * 32}, r"^max_area is set for you.*width and height choose the size"),
        ({"_auto_resize": True}, r"^_auto_resize is set for you"),
        ({"stength": 0.1}, r"^FluxKontextPipeline has no option 'stength': did you mean strength\?$"),
        ({"guidance_scale": "x"}, r"^guidance_scale is 'x', but must be a number"),
        ({"max_sequence_length": -3}, r"^max_sequence_length is -3, but must be a whole number of tokens, at least 1"),
        ({"callback_on_step_end": 3}, r"^callback_on_step_end is 3, but must be a function of \(pipeline, step,"),
        ({"callback_on_step_end_tensor_inputs": 3}, r"^callback_on_step_end_tensor_inputs is 3, but must be a list of"),
        (
            {"callback_on_step_end_tensor_inputs": ["no"]},
            r"cannot do with what it was given as callback_on_step_end_ten",
        ),
        ({"max_sequence_length": 600}, r"as max_sequence_length: ValueError: .*cannot be greater than 512"),
        (
            {"prompt_2": 5},
            r"^FluxKontextPipeline cannot do with what it was given as prompt_2: ValueError: .*must be of",
        ),
        ({"latents": torch.ones(2, 3)}, r"as latents: RuntimeError: .*Mend or leave out what it speaks of\.$"),
        ({"width": True}, r"^width is True, but must be a whole number of pixels"),
        ({"denoising_strength": 0.5}, r"has no option 'denoising_strength'"),
        ({"hold": 0}, r"^hold is a field of Repulsion: give repulsion=Repulsion\(hold=0\)\.$"),
        ({"churn": 0.5}, r"^churn is a field of Repulsion: give repulsion=Repulsion\(churn=0\.5\)\.$"),
        ({"zzz": 2}, r"has no option 'zzz': it takes callback_on_step_end,"),  # _auto_resize is not theirs
        ({"restore": "yes"}, r"^restore is 'yes', but must be True or False"),
        ({"strength": True}, r"^strength is True, but must be a finite number"),
        ({"on_step": 3}, r"^on_step is 3, but must be a function"),
        ({"instruction_mask": [True]}, r"^instruction_mask says which tokens of prompt_embeds are words"),
    ],
)
def test_what_is_refused(pipeline: Any, picture: Image.Image, option: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tiny.edit(picture, pipeline=pipeline, **option)


def test_what_a_callback_raises_is_its_own(pipeline: Any, picture: Image.Image) -> None:
    def fails(*_: Any) -> Any:
        raise ValueError("mine")

    with pytest.raises(ValueError, match=r"^mine$"):
        tiny.edit(picture, pipeline=pipeline, width=48, callback_on_step_end=fails)


@pytest.mark.parametrize("share", [0, -0.1, 1.5, "x", True])
def test_how_far_an_edit_may_go(picture: Image.Image, share: Any) -> None:
    with pytest.raises(InputError, match=r"^denoising_strength is .*, but must be a number above 0 and up to 1"):
        tiny.edit(picture, pipeline=tiny_sd3.pipeline(StableDiffusion3Img2ImgPipeline), denoising_strength=share)


def test_cropping_around_the_mask_is_named(picture: Image.Image) -> None:
    pipeline = tiny_sd3.pipeline(StableDiffusion3InpaintPipeline)
    mask = Image.new("L", picture.size, 255)
    with pytest.raises(InputError, match=r"^padding_mask_crop is not possible: pictures come back as tensors"):
        tiny.edit(picture, pipeline=pipeline, mask=mask, padding_mask_crop=8)


def embeds(pipeline: Any, words: str, rows: int) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        text, pooled, _ = pipeline.encode_prompt(words, words, max_sequence_length=tiny.LENGTH)
    return {"prompt_embeds": text.repeat(rows, 1, 1), "pooled_prompt_embeds": pooled.repeat(rows, 1)}


def test_one_row_of_embeddings_serves_all(pipeline: Any, picture: Image.Image) -> None:
    one, three = (tiny.edit(picture, pipeline=pipeline, **embeds(pipeline, tiny.WORDS, rows)) for rows in (1, 3))
    assert (tiny.pixels(one) == tiny.pixels(three)).all()


def test_another_number_of_rows_is_named(pipeline: Any, picture: Image.Image) -> None:
    with pytest.raises(InputError, match=r"^prompt_embeds has 3 rows for 2 edits: give one row for all of them, or 2"):
        tiny.edit(picture, n=2, pipeline=pipeline, **embeds(pipeline, tiny.WORDS, 3))


def test_words_beside_one_row_of_negative_embeddings(picture: Image.Image) -> None:
    pipeline = tiny_sd3.pipeline(StableDiffusion3Img2ImgPipeline)
    with torch.no_grad():
        _, text, _, pooled = pipeline.encode_prompt("", "", "", negative_prompt="dull", max_sequence_length=tiny.LENGTH)
    negative = {"negative_prompt_embeds": text[:1], "negative_pooled_prompt_embeds": pooled[:1]}
    options = {"pipeline": pipeline, "width": 64, "height": 64, "steps": 2, "max_sequence_length": tiny.LENGTH}
    by_words = tiny.edit(picture, negative_prompt="dull", **options)
    by_rows = tiny.edit(picture, **negative, **options)
    assert abs(tiny.pixels(by_words).astype(int) - tiny.pixels(by_rows)).max() <= 1


def test_which_embeddings_are_words(pipeline: Any, picture: Image.Image) -> None:
    rows = embeds(pipeline, tiny.WORDS, 1)
    words = torch.arange(tiny.LENGTH) < tiny.TOKENS
    by_words = tiny.edit(picture, pipeline=pipeline)
    masked, all_of_them = (
        tiny.edit(picture, pipeline=pipeline, **rows, instruction_mask=mask) for mask in (words.tolist(), None)
    )
    assert (tiny.pixels(masked) == tiny.pixels(by_words)).all()
    assert not (tiny.pixels(all_of_them) == tiny.pixels(by_words)).all()
