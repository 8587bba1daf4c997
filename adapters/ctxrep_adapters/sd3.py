"""Stable Diffusion 3 and 3.5: image to image, inpainting, ControlNet inpainting, and editing by instruction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ctxrep_adapters.shared import CAUTIOUS, check_guidance, of_scaled

from ctxrep_edit import Adapter, InputError, Repulsion, Request, Scope, hookimpl

if TYPE_CHECKING:
    import torch

ctxrep_api = "1.0"
WORDS = frozenset({"instruction"})
BLOCKS = "transformer_blocks"
DEFAULT_LENGTH = 256  # of the pipelines' max_sequence_length
SIDE, INSTRUCT_SIDE = 1024, 512  # pixels, of a square picture


class _StableDiffusion3(Adapter):
    """The text stream is [CLIP tokens | T5 tokens]; the last block returns none.

    The default is a cautious one: nothing was measured on the trained models.
    """

    streams = {BLOCKS: ("text", "image")}
    scopes = {
        "context": Scope({BLOCKS: WORDS}, "instruction tokens"),
        "generated": Scope({BLOCKS: WORDS | {"generated"}}, "instruction and image tokens"),
        "middle": Scope(
            {BLOCKS: WORDS | {"generated"}},
            "instruction and image tokens of the middle half of the blocks",
            within={BLOCKS: (0.25, 0.75)},
        ),
        "pooled": Scope(
            {BLOCKS: WORDS | {"generated"}}, "instruction tokens and the mean of the image tokens", pooled=True
        ),
        "paper": Scope(
            {BLOCKS: WORDS | {"padding"}},
            "all text tokens (Dahary et al. 2026, appendix A, who take steps=4, iterations=100 and guidance='both')",
        ),
    }
    default = CAUTIOUS
    guidance = ("unconditional", "conditional")
    may_lack = ("text_encoder_3", "tokenizer_3")

    def instruction(self, pipeline: Any, arguments: Mapping[str, Any]) -> torch.Tensor | None:
        import torch

        prompt = arguments.get("prompt")
        if prompt is None or arguments.get("prompt_embeds") is not None:
            return None
        prompts = [arguments.get(name) or prompt for name in ("prompt", "prompt_2", "prompt_3")]
        clip = torch.zeros(pipeline.tokenizer_max_length, dtype=torch.bool, device="cpu")  # (CLIP tokens,)
        for tokenizer, words in zip((pipeline.tokenizer, pipeline.tokenizer_2), prompts[:2], strict=True):
            clip |= _real(tokenizer, words, len(clip))
        length = arguments.get("max_sequence_length", DEFAULT_LENGTH)
        empty = pipeline.text_encoder_3 is None  # its tokens are zeros then
        t5 = (
            torch.zeros(length, dtype=torch.bool, device="cpu")
            if empty
            else _real(pipeline.tokenizer_3, prompts[2], length)
        )
        return torch.cat([clip, t5])

    def pack(self, pipeline: Any, latents: torch.Tensor) -> torch.Tensor:
        config = pipeline.vae.config
        shift = (config.shift_factor or 0.0) if self.shifted(pipeline) else 0.0
        return (latents - shift) * config.scaling_factor

    def shifted(self, pipeline: Any) -> bool:
        """Whether the latents of what is made are less the autoencoder's shift."""
        return True

    def unpacked(self, pipeline: Any, latents: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        return of_scaled(pipeline, latents)

    def side(self, pipeline: Any) -> int:
        """Of a square picture, in pixels; pictures of other aspects have its area."""
        return SIDE

    def size(self, pipeline: Any, width: int, height: int) -> tuple[int, int]:
        unit = pipeline.vae_scale_factor * pipeline.patch_size
        scale = self.side(pipeline) / (width * height) ** 0.5
        return max(1, round(width * scale / unit)) * unit, max(1, round(height * scale / unit)) * unit

    def check_call(self, pipeline: Any, arguments: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        check_guidance(pipeline, arguments, options, "guidance_scale")

    def arguments(self, pipeline: Any, request: Request) -> dict[str, Any]:
        from PIL.Image import Resampling

        out: dict[str, Any] = {
            "image": request.image.resize(request.size, Resampling.LANCZOS),
            "prompt": request.instruction,
            "num_images_per_prompt": len(request.generators),
            "generator": list(request.generators),
            "width": request.size[0],
            "height": request.size[1],
        }
        if request.steps is not None:
            out["num_inference_steps"] = request.steps
        return out


def _real(tokenizer: Any, words: str, length: int) -> torch.Tensor:
    """Which of `length` tokens are not padding: bool (length,)."""
    tokens = tokenizer(words, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    mask: torch.Tensor = tokens.attention_mask[0].bool()
    return mask


def _mask(pipeline: Any, request: Request) -> Any:
    if request.mask is None:
        raise InputError(f"{type(pipeline).__name__} edits inside a mask and was given none: give mask=.")
    return request.mask.resize(request.size)


class Img2Img(_StableDiffusion3):
    """`StableDiffusion3Img2ImgPipeline`: starts from the noised source; `denoising_strength` says how far from it."""

    name = "sd3-img2img"
    pipelines = ("StableDiffusion3Img2ImgPipeline",)

    def arguments(self, pipeline: Any, request: Request) -> dict[str, Any]:
        out = super().arguments(pipeline, request)
        return {**out, "image": [out["image"]] * len(request.generators)}  # it encodes one per generator


class Inpaint(Img2Img):
    """`StableDiffusion3InpaintPipeline`."""

    name = "sd3-inpaint"
    pipelines = ("StableDiffusion3InpaintPipeline",)

    def arguments(self, pipeline: Any, request: Request) -> dict[str, Any]:
        mask = _mask(pipeline, request)
        return {**super().arguments(pipeline, request), "mask_image": [mask] * len(request.generators)}


class ControlNetInpaint(_StableDiffusion3):
    """`StableDiffusion3ControlNetInpaintingPipeline`: the ControlNet sees the source with the mask cut out."""

    name = "sd3-controlnet-inpaint"
    pipelines = ("StableDiffusion3ControlNetInpaintingPipeline",)
    draws_unasked = True  # for what its autoencoder makes of the cut-out picture

    def arguments(self, pipeline: Any, request: Request) -> dict[str, Any]:
        out = super().arguments(pipeline, request)
        out["control_image"], out["control_mask"] = out.pop("image"), _mask(pipeline, request)
        return out


class Instruct(_StableDiffusion3):
    """`StableDiffusion3InstructPix2PixPipeline`, ours: guidance triples the batch, [all | source | none].

    The default is what suits sd3-nano (docs/sd3-nano.md); on the big models nothing was measured.
    """

    name = "sd3-instruct"
    pipelines = ("StableDiffusion3InstructPix2PixPipeline",)
    default = Repulsion(
        scope="paper", strength=5.0, window=0.1, schedule="linear", keep_norm=False, anchor=True, oversample=2
    )
    measured_on = "sd3-nano"
    guidance = ("conditional", "unconditional", "unconditional")

    def classes(self) -> Iterable[type]:
        from ctxrep_adapters.sd3_instruct import StableDiffusion3InstructPix2PixPipeline

        return [StableDiffusion3InstructPix2PixPipeline]

    def side(self, pipeline: Any) -> int:
        # UltraEdit was trained at 512 on a transformer that still states the 1024 of SD3; a smaller one states its own
        stated: int = pipeline.default_sample_size * pipeline.vae_scale_factor
        return min(INSTRUCT_SIDE, stated)

    def shifted(self, pipeline: Any) -> bool:
        return bool(pipeline.config.normalized_latents)

    def check_call(self, pipeline: Any, arguments: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        super().check_call(pipeline, arguments, options)
        scale = arguments.get("guidance_scale")
        if (options.get("image_guidance_scale") or 1) > 1 and scale is not None and scale <= 1:
            raise InputError(
                f"image_guidance_scale has no effect: {type(pipeline).__name__} guides where guidance_scale is above "
                f"1, and it is {scale:g}. Give guidance_scale, or leave image_guidance_scale out."
            )

    def arguments(self, pipeline: Any, request: Request) -> dict[str, Any]:
        out = super().arguments(pipeline, request)
        if pipeline.takes_mask and request.mask is not None:
            out["mask_img"] = request.mask.resize(request.size)
        return out


@hookimpl
def ctxrep_adapters() -> Iterable[Adapter]:
    return [Img2Img(), Inpaint(), ControlNetInpaint(), Instruct()]
