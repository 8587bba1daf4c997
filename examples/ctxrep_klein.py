"""FLUX.2 [klein] for ctxrep-edit, under a name of its own: the adapter of OwnKleinPipeline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ctxrep_edit import Adapter, Repulsion, Request, Scope, hookimpl

if TYPE_CHECKING:
    import torch

ctxrep_api = "1.0"
WORDS = frozenset({"instruction"})
DOUBLE, SINGLE = "transformer_blocks", "single_transformer_blocks"
LENGTH = 512  # of the pipeline's max_sequence_length
PIXELS = 1024 * 1024
CHAT = {"add_generation_prompt": True, "enable_thinking": False}  # as the pipeline asks for it
FIXED = {"truncation": True, "return_offsets_mapping": True, "return_tensors": "pt"}


class Klein(Adapter):
    """The text is a chat turn around the instruction; the source's latents follow the generated ones."""

    name = "own-klein"
    pipelines = ("OwnKleinPipeline",)
    streams = {DOUBLE: ("text", "image"), SINGLE: "joint"}
    scopes = {
        "context": Scope({DOUBLE: WORDS}, "instruction tokens of the double blocks"),
        "generated": Scope(
            {DOUBLE: WORDS, SINGLE: WORDS | {"generated"}},
            "instruction tokens of all blocks, generated-image tokens of the single ones",
        ),
    }
    default = Repulsion(scope="generated", strength=1.0, steps=1, anchor=True)
    guidance = "calls"

    def generated(self, call: Mapping[str, Any]) -> int:
        return int((call["img_ids"][0, :, 0] == 0).sum())  # (batch, tokens, 4); references have another time

    def instruction(self, pipeline: Any, arguments: Mapping[str, Any]) -> torch.Tensor | None:
        prompt, length = arguments.get("prompt"), arguments.get("max_sequence_length", LENGTH)
        if prompt is None:
            return None
        turn = [{"role": "user", "content": prompt}]
        text = pipeline.tokenizer.apply_chat_template(turn, tokenize=False, **CHAT)
        tokens = pipeline.tokenizer(text, padding="max_length", max_length=length, **FIXED)
        first, last = tokens["offset_mapping"][0].unbind(1)  # (tokens,), characters of `text`
        start = text.index(prompt, text.index("user") + len("user"))
        mask: torch.Tensor = (last > start) & (first < start + len(prompt))
        return mask

    def size(self, pipeline: Any, width: int, height: int) -> tuple[int, int]:
        unit = pipeline.vae_scale_factor * 2
        scale = (PIXELS / (width * height)) ** 0.5
        return max(1, round(width * scale / unit)) * unit, max(1, round(height * scale / unit)) * unit

    def arguments(self, pipeline: Any, request: Request) -> dict[str, Any]:
        out: dict[str, Any] = {
            "image": request.image.resize(request.size),
            "prompt": request.instruction,
            "num_images_per_prompt": len(request.generators),
            "generator": list(request.generators),
            "width": request.size[0],
            "height": request.size[1],
        }
        return out if request.steps is None else {**out, "num_inference_steps": request.steps}


@hookimpl
def ctxrep_adapters() -> Iterable[Adapter]:
    return [Klein()]
