"""Qwen-Image that edits: the text holds vision tokens of the source, the autoencoder is one of videos."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ctxrep_adapters.shared import (
    CAUTIOUS,
    VideoAutoencoder,
    asked,
    check_embedded,
    check_guidance,
    mask_of,
    of_its_own_size,
    one_list,
    resized,
    words_before,
)

from ctxrep_edit import Adapter, InputError, Request, hookimpl

if TYPE_CHECKING:
    import torch

ctxrep_api = "1.0"
AREA = 1024 * 1024  # pixels of the source as the pipelines look at it


class QwenImageEdit(VideoAutoencoder):
    """`QwenImageEditPipeline`. The text is [vision tokens of the source | instruction | end of the turn], as long as it
    happens to be. Guidance is a second call of the transformer, with a negative prompt; the pipeline scales each
    token of the guided prediction to the norm of the conditional one.

    The default is a cautious one: nothing was measured on the trained models.
    """

    name = "qwen-image-edit"
    pipelines: tuple[str, ...] = ("QwenImageEditPipeline",)
    streams = {"transformer_blocks": ("text", "image")}
    scopes = one_list()
    default = CAUTIOUS
    guidance = "calls"

    def generated(self, call: Mapping[str, Any]) -> int:
        frames, height, width = call["img_shapes"][0][0]  # in tokens
        return int(frames * height * width)

    def instruction(self, pipeline: Any, arguments: Mapping[str, Any]) -> Any:
        prompt = arguments.get("prompt")
        if prompt is None:
            return None
        after = pipeline.prompt_template_encode.partition("{}")[2]  # what the pipeline puts behind the words
        words, tail = (len(pipeline.tokenizer(text)["input_ids"]) for text in (prompt, after))
        return words_before(tail, words)

    def unpacked(self, pipeline: Any, latents: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        spread = pipeline._unpack_latents(latents, size[1], size[0], pipeline.vae_scale_factor)
        about = pipeline.vae.config  # spread is (n, channels, 1, h, w)
        mean, deviation = (spread.new_tensor(of).view(1, -1, 1, 1, 1) for of in (about.latents_mean, about.latents_std))
        scaled: torch.Tensor = spread * deviation + mean
        return scaled.to(pipeline.vae.dtype)

    def size(self, pipeline: Any, width: int, height: int) -> tuple[int, int]:
        unit = pipeline.vae_scale_factor * 2
        wide, high = _seen(width, height)
        return wide // unit * unit, high // unit * unit

    def check_call(self, pipeline: Any, arguments: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        check_guidance(pipeline, arguments, options, "true_cfg_scale", alone=False)
        check_embedded(pipeline, options)
        if options.get("negative_prompt_embeds") is not None and options.get("prompt_embeds") is None:
            raise InputError(
                f"{type(pipeline).__name__} makes as many copies of negative_prompt_embeds as of the words: give "
                "prompt_embeds and their mask, too, or negative_prompt in words."
            )

    def arguments(self, pipeline: Any, request: Request) -> dict[str, Any]:
        unit = pipeline.vae_scale_factor * 2  # of the big models it divides every size at which they look at a picture
        fits = all(side % unit == 0 for side in _seen(*request.image.size))
        return {**asked(request, request.image if fits else resized(request)), "negative_prompt": " "}


class QwenImageEditPlus(QwenImageEdit):
    """`QwenImageEditPlusPipeline`: several pictures, each named and shown in the text before the instruction."""

    name = "qwen-image-edit-plus"
    pipelines = ("QwenImageEditPlusPipeline",)
    references = 2

    def arguments(self, pipeline: Any, request: Request) -> dict[str, Any]:
        # the pipeline edits in the aspect of the last picture where it is not told a size, and it is told one
        return {**super().arguments(pipeline, request), "image": [request.image, *request.references]}


class QwenImageEditInpaint(QwenImageEdit):
    """`QwenImageEditInpaintPipeline`, which takes no size but makes its own. Its source is encoded with noise from the
    first generator."""

    name = "qwen-image-edit-inpaint"
    pipelines = ("QwenImageEditInpaintPipeline",)

    def arguments(self, pipeline: Any, request: Request) -> dict[str, Any]:
        out = asked(request, of_its_own_size(self, pipeline, request), sized=False)
        return {**out, "negative_prompt": " ", "mask_image": mask_of(pipeline, request)}


def _seen(width: int, height: int) -> tuple[int, int]:
    """At which the pipelines look at a picture of that size."""
    from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit

    wide, high, _ = pipeline_qwenimage_edit.calculate_dimensions(AREA, width / height)
    return int(wide), int(high)


@hookimpl
def ctxrep_adapters() -> Iterable[Adapter]:
    return [QwenImageEdit(), QwenImageEditPlus(), QwenImageEditInpaint()]
