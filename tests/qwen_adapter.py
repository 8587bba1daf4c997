"""An adapter of Qwen-Image-Edit: its text is of any length and has vision tokens of the source in it, guidance is two
calls, and the autoencoder is one of videos."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ctxrep_edit import Adapter, Repulsion, Request, Scope

if TYPE_CHECKING:
    import torch

WORDS = frozenset({"instruction"})
BLOCKS = "transformer_blocks"
AREA = 1024 * 1024  # pixels of the source as the pipeline looks at it


class QwenImageEdit(Adapter):
    """The text is [vision tokens of the source | instruction | end of the turn], as long as it happens to be."""

    name = "qwen-image-edit"
    pipelines = ("QwenImageEditPipeline",)
    streams = {BLOCKS: ("text", "image")}
    scopes = {
        "context": Scope({BLOCKS: WORDS}, "instruction tokens"),
        "generated": Scope({BLOCKS: WORDS | {"generated"}}, "instruction and generated-image tokens"),
    }
    default = Repulsion(scope="generated", strength=1.0, steps=1, anchor=True)
    guidance = "calls"

    def generated(self, call: Mapping[str, Any]) -> int:
        frames, height, width = call["img_shapes"][0][0]  # in tokens
        return int(frames * height * width)

    def instruction(
        self, pipeline: Any, arguments: Mapping[str, Any]
    ) -> Callable[[Mapping[str, Any]], torch.Tensor | None] | None:
        prompt = arguments.get("prompt")
        if prompt is None:
            return None
        after = pipeline.prompt_template_encode.partition("{}")[2]
        words, tail = (len(pipeline.tokenizer(text)["input_ids"]) for text in (prompt, after))

        import torch

        def mask(call: Mapping[str, Any]) -> torch.Tensor:
            places = torch.arange(call["encoder_hidden_states"].shape[1], device="cpu")
            end = len(places) - tail
            return (places >= end - words) & (places < end)

        return mask

    def encode(self, pipeline: Any, pictures: torch.Tensor) -> torch.Tensor:
        return super().encode(pipeline, pictures.unsqueeze(2))

    def decode(self, pipeline: Any, latents: torch.Tensor) -> torch.Tensor:
        return super().decode(pipeline, latents)[:, :, 0]

    def size(self, pipeline: Any, width: int, height: int) -> tuple[int, int]:
        from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit

        wide, high, _ = pipeline_qwenimage_edit.calculate_dimensions(AREA, width / height)
        unit = pipeline.vae_scale_factor * 2
        return int(wide) // unit * unit, int(high) // unit * unit

    def arguments(self, pipeline: Any, request: Request) -> dict[str, Any]:
        out: dict[str, Any] = {
            "image": request.image,
            "prompt": request.instruction,
            "negative_prompt": " ",
            "num_images_per_prompt": len(request.generators),
            "generator": list(request.generators),
            "width": request.size[0],
            "height": request.size[1],
        }
        return out if request.steps is None else {**out, "num_inference_steps": request.steps}
