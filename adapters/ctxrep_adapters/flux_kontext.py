"""FLUX.1 Kontext: the source picture's latents follow the generated ones in the image stream."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ctxrep_adapters.shared import check_embedded, check_guidance, of_packed

from ctxrep_edit import Adapter, InputError, Repulsion, Request, Scope, hookimpl

if TYPE_CHECKING:
    import torch

ctxrep_api = "1.0"
WORDS = frozenset({"instruction"})
TEXT = frozenset({"instruction", "padding"})
DEFAULT_LENGTH = 512  # of the pipeline's max_sequence_length


class FluxKontext(Adapter):
    """`FluxKontextPipeline` and `FluxKontextInpaintPipeline`; guidance, if any, is a second call of the transformer."""

    name = "flux-kontext"
    pipelines = ("FluxKontextPipeline", "FluxKontextInpaintPipeline")
    streams = {"transformer_blocks": ("text", "image"), "single_transformer_blocks": ("text", "image")}
    scopes = {
        "context": Scope({"transformer_blocks": WORDS}, "instruction tokens of the double blocks"),
        "context+single": Scope(
            {"transformer_blocks": WORDS, "single_transformer_blocks": WORDS},
            "instruction tokens of all blocks",
        ),
        "double": Scope(
            {"transformer_blocks": WORDS | {"generated"}},
            "instruction and generated-image tokens of the double blocks",
        ),
        "middle": Scope(
            {"transformer_blocks": WORDS | {"generated"}, "single_transformer_blocks": WORDS | {"generated"}},
            "instruction and generated-image tokens of the later double and the earlier single blocks",
            within={"transformer_blocks": (0.5, 1.0), "single_transformer_blocks": (0.0, 0.5)},
        ),
        "late-double": Scope(
            {"transformer_blocks": WORDS | {"generated"}},
            "instruction and generated-image tokens of the later double blocks",
            within={"transformer_blocks": (0.5, 1.0)},
        ),
        "generated": Scope(
            {"transformer_blocks": WORDS, "single_transformer_blocks": TEXT | {"generated"}},
            "instruction tokens of the double blocks, text and generated-image tokens of the single ones",
        ),
        "pooled": Scope(
            {"transformer_blocks": WORDS | {"generated"}, "single_transformer_blocks": WORDS | {"generated"}},
            "instruction tokens and the mean of the generated-image tokens, of all blocks",
            pooled=True,
        ),
        "paper": Scope(
            {"transformer_blocks": TEXT, "single_transformer_blocks": TEXT | {"generated", "reference"}},
            "text tokens of the double blocks, all tokens of the single ones (Dahary et al. 2026, appendix A)",
            iterations=50,
        ),
    }
    default = Repulsion(scope="middle", strength=1.5, window=0.14, schedule="linear", anchor=True, oversample=2)
    guidance = "calls"
    measured_on = "kontext-nano"

    def generated(self, call: Mapping[str, Any]) -> int:
        ids = call["img_ids"]
        ids = ids[0] if ids.ndim == 3 else ids  # (tokens, 3); the first number is 0 for what is generated
        return int((ids[:, 0] == 0).sum())

    def instruction(self, pipeline: Any, arguments: Mapping[str, Any]) -> torch.Tensor | None:
        prompt = arguments.get("prompt_2") or arguments.get("prompt")
        if prompt is None or arguments.get("prompt_embeds") is not None:
            return None
        tokens = pipeline.tokenizer_2(
            prompt,
            padding="max_length",
            max_length=arguments.get("max_sequence_length", DEFAULT_LENGTH),
            truncation=True,
            return_tensors="pt",
        )
        mask: torch.Tensor = tokens.attention_mask[0].bool()
        return mask

    def pack(self, pipeline: Any, latents: torch.Tensor) -> torch.Tensor:
        config = pipeline.vae.config
        scaled = (latents - (config.shift_factor or 0.0)) * config.scaling_factor  # (n, channels, h, w)
        packed: torch.Tensor = pipeline._pack_latents(scaled, *scaled.shape)
        return packed

    def unpacked(self, pipeline: Any, latents: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        return of_packed(pipeline, latents, size)

    def size(self, pipeline: Any, width: int, height: int) -> tuple[int, int]:
        from diffusers.pipelines.flux.pipeline_flux_kontext import PREFERRED_KONTEXT_RESOLUTIONS

        w, h = min(PREFERRED_KONTEXT_RESOLUTIONS, key=lambda s: abs(width / height - s[0] / s[1]))
        unit = pipeline.vae_scale_factor * 2
        return w // unit * unit, h // unit * unit

    def check_call(self, pipeline: Any, arguments: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        check_guidance(pipeline, arguments, options, "true_cfg_scale", alone=False)
        check_embedded(pipeline, options)

    def arguments(self, pipeline: Any, request: Request) -> dict[str, Any]:
        from PIL.Image import Resampling

        width, height = request.size
        out: dict[str, Any] = {
            # at full size it would become as many tokens as its pixels ask for
            "image": request.image.resize(request.size, Resampling.LANCZOS),
            "prompt": request.instruction,
            "num_images_per_prompt": len(request.generators),
            "generator": list(request.generators),
            "width": width,
            "height": height,
            "max_area": width * height,
            "_auto_resize": False,
        }
        if request.steps is not None:
            out["num_inference_steps"] = request.steps
        if "Inpaint" not in type(pipeline).__name__:
            return out
        if request.mask is None:
            raise InputError("FluxKontextInpaintPipeline edits inside a mask and was given none: give mask=.")
        return {**out, "mask_image": request.mask.resize(request.size)}


@hookimpl
def ctxrep_adapters() -> Iterable[Adapter]:
    return [FluxKontext()]
