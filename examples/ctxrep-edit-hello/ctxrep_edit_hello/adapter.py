"""The adapter of `HelloEditPipeline`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ctxrep_edit import Adapter, Repulsion, Request, Scope

if TYPE_CHECKING:
    import torch

WORDS = frozenset({"instruction"})
AREA = 64 * 64  # pixels that the pipeline edits at


class HelloAdapter(Adapter):
    name = "hello"
    pipelines = ("HelloEditPipeline",)
    streams = {"blocks": ("image", "text")}  # what a block returns, in order
    scopes = {
        "context": Scope({"blocks": WORDS}, "instruction tokens"),
        "generated": Scope({"blocks": WORDS | {"generated"}}, "instruction and generated-image tokens"),
    }
    default = Repulsion(scope="generated", strength=1.0, steps=2)
    guidance = ("unconditional", "conditional")  # one call of the transformer, the batch is [negative, positive]

    def classes(self) -> Iterable[type]:
        from ctxrep_edit_hello.pipeline import HelloEditPipeline

        return [HelloEditPipeline]

    def timestep(self, call: Mapping[str, Any]) -> float:
        return float(call["t"].flatten()[0])

    def generated(self, call: Mapping[str, Any]) -> int:
        return int(call["hidden_states"].shape[1]) // 2  # the reference follows, as long

    def instruction(self, pipeline: Any, arguments: Mapping[str, Any]) -> torch.Tensor | None:
        from ctxrep_edit_hello.pipeline import PADDING, letters

        mask: torch.Tensor = letters(arguments["prompt"])[0] != PADDING  # (tokens,)
        return mask

    def unpacked(self, pipeline: Any, latents: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        side = 2 ** (len(pipeline.vae.config.encoder_block_out_channels) - 1)  # pixels of a latent
        return latents.transpose(1, 2).unflatten(2, (size[1] // side, size[0] // side))  # (n, channels, h, w)

    def size(self, pipeline: Any, width: int, height: int) -> tuple[int, int]:
        scale = (AREA / (width * height)) ** 0.5
        return max(1, round(width * scale / 8)) * 8, max(1, round(height * scale / 8)) * 8

    def arguments(self, pipeline: Any, request: Request) -> dict[str, Any]:
        out: dict[str, Any] = {
            "image": request.image,
            "prompt": request.instruction,
            "num_images_per_prompt": len(request.generators),
            "generator": list(request.generators),
            "width": request.size[0],
            "height": request.size[1],
        }
        if request.steps is not None:
            out["num_inference_steps"] = request.steps
        return out
