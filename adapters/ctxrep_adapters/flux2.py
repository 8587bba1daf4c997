"""FLUX.2: double blocks, then single ones with one joint stream; references have another time in their position ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import ceil
from typing import TYPE_CHECKING, Any

from ctxrep_adapters.shared import (
    CAUTIOUS,
    TWO_LISTS,
    CachedSource,
    asked,
    by_area,
    check_guidance,
    first_frame,
    mask_of,
    resized,
    words_in_turn,
)

from ctxrep_edit import Adapter, InputError, Request, hookimpl

if TYPE_CHECKING:
    import torch
    from PIL import Image

ctxrep_api = "1.0"
LENGTH = 512  # of the pipelines' max_sequence_length
LEAST, NARROWEST = 64, 8  # pixels a side, and length in widths, that the pipelines take
CHAT = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": False}  # as the pipelines ask for it


class Flux2Klein(Adapter):
    """`Flux2KleinPipeline`: the text is a chat turn around the instruction. The base models guide by a second call.

    The default of all of FLUX.2 is a cautious one: nothing was measured on the trained models.
    """

    name = "flux2-klein"
    pipelines: tuple[str, ...] = ("Flux2KleinPipeline",)
    streams = {"transformer_blocks": ("text", "image"), "single_transformer_blocks": "joint"}
    scopes = TWO_LISTS
    default = CAUTIOUS
    guidance = "calls"
    references = 3

    def generated(self, call: Mapping[str, Any]) -> int | torch.Tensor:
        return first_frame(call)

    def instruction(self, pipeline: Any, arguments: Mapping[str, Any]) -> torch.Tensor | None:
        prompt, length = arguments.get("prompt"), arguments.get("max_sequence_length", LENGTH)
        if prompt is None:
            return None

        def turn(words: str) -> Any:
            return pipeline.tokenizer.apply_chat_template([{"role": "user", "content": words}], **CHAT)

        return words_in_turn(pipeline.tokenizer, turn, prompt, length)

    def unpacked(self, pipeline: Any, latents: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        unit, norm = pipeline.vae_scale_factor * 2, pipeline.vae.bn
        high, wide = size[1] // unit, size[0] // unit
        spread = latents.transpose(1, 2).unflatten(2, (high, wide))  # (n, channels, h, w), of patches of 2 x 2
        spread_of = (norm.running_var + pipeline.vae.config.batch_norm_eps).sqrt()
        mean, deviation = (of.view(1, -1, 1, 1).to(spread) for of in (norm.running_mean, spread_of))
        unpatched: torch.Tensor = pipeline._unpatchify_latents(spread * deviation + mean)
        return unpatched.to(pipeline.vae.dtype)

    def size(self, pipeline: Any, width: int, height: int) -> tuple[int, int]:
        return by_area(width, height, pipeline.vae_scale_factor * 2)

    def check_call(self, pipeline: Any, arguments: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        idle = "guidance_scale" if (options.get("guidance_scale") or 1) > 1 else "negative_prompt_embeds"
        if options.get(idle) is not None and getattr(pipeline.config, "is_distilled", False):
            raise InputError(
                f"{idle} has no effect: this {type(pipeline).__name__} is distilled to few steps and never guides. "
                "Leave it out."
            )
        check_guidance(pipeline, arguments, options, "guidance_scale")

    def arguments(self, pipeline: Any, request: Request) -> dict[str, Any]:
        _check_narrow(request.image, "image")
        others = [self.fitted(pipeline, picture) for picture in request.references]
        return asked(request, [resized(request), *others])

    def fitted(self, pipeline: Any, picture: Image.Image) -> Image.Image:
        """A further picture in a size of which the pipeline crops nothing, and that it does not refuse. Raises
        InputError for one that is too narrow."""
        _check_narrow(picture, "a further picture")
        width, height = picture.size
        size = self.size(pipeline, width, height)
        if width * height > size[0] * size[1]:
            return picture.resize(size)
        grown = LEAST / min(width, height)
        return picture if grown <= 1 else picture.resize((ceil(width * grown), ceil(height * grown)))


class Flux2(Flux2Klein):
    """`Flux2Pipeline`, FLUX.2 [dev]: a system message, then the instruction. Guidance is distilled: one call a step."""

    name = "flux2"
    pipelines = ("Flux2Pipeline",)

    def instruction(self, pipeline: Any, arguments: Mapping[str, Any]) -> torch.Tensor | None:
        from diffusers.pipelines.flux2.pipeline_flux2 import format_input

        prompt, length = arguments.get("prompt"), arguments.get("max_sequence_length", LENGTH)
        if prompt is None or arguments.get("caption_upsample_temperature"):  # which writes another prompt
            return None
        processor = pipeline.tokenizer

        def turn(words: str) -> Any:
            return processor.apply_chat_template(format_input([words])[0], add_generation_prompt=False, tokenize=False)

        start = processor.tokenizer.bos_token
        special = start is None or not turn(prompt).startswith(start)
        return words_in_turn(processor.tokenizer, turn, prompt, length, add_special_tokens=special)


class Flux2KleinKV(CachedSource, Flux2Klein):
    """`Flux2KleinKVPipeline`: the references come before the generated tokens, and in the first step alone; from then
    on a cache has them."""

    name = "flux2-klein-kv"
    pipelines = ("Flux2KleinKVPipeline",)

    def generated(self, call: Mapping[str, Any]) -> torch.Tensor:
        ids = call["img_ids"]
        made: torch.Tensor = (ids[0] if ids.ndim == 3 else ids)[:, 0] == 0
        return made


class Flux2KleinInpaint(Flux2Klein):
    """`Flux2KleinInpaintPipeline`: starts from the noised source; `denoising_strength` says how far from it."""

    name = "flux2-klein-inpaint"
    pipelines = ("Flux2KleinInpaintPipeline",)
    references = 1

    def arguments(self, pipeline: Any, request: Request) -> dict[str, Any]:
        out = {**asked(request, resized(request)), "mask_image": mask_of(pipeline, request)}
        for picture in request.references:
            out["image_reference"] = self.fitted(pipeline, picture)
        return out


def _check_narrow(picture: Image.Image, name: str) -> None:
    width, height = picture.size
    if max(width, height) > NARROWEST * min(width, height):
        raise InputError(
            f"{name} is {width} x {height} pixels, but FLUX.2 takes none that is more than {NARROWEST} times "
            "as long as wide: give a part of it."
        )


@hookimpl
def ctxrep_adapters() -> Iterable[Adapter]:
    return [Flux2(), Flux2Klein(), Flux2KleinKV(), Flux2KleinInpaint()]
