"""FLUX.3 [klein], which diffusers has as a modular pipeline: the source's tokens are given beside the latents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ctxrep_adapters.shared import CAUTIOUS, SINGLE, all_resized, asked, by_area, one_list, words_in_turn

from ctxrep_edit import Adapter, Request, hookimpl

if TYPE_CHECKING:
    import torch

ctxrep_api = "1.0"


class Flux3(Adapter):
    """`Flux3ModularPipeline` and `Flux3DistilledModularPipeline`. Text, latents and source pass through blocks of their
    own first, in which none of them sees the others; the joint ones repel. With a prompt upsampler among the blocks the
    words become others, and all text tokens count as instruction. Guidance, if any, is a second call.

    The default is a cautious one: nothing was measured on the trained models.
    """

    name = "flux3"
    pipelines = ("Flux3ModularPipeline", "Flux3DistilledModularPipeline")
    streams = {SINGLE: ("text", "image")}
    scopes = one_list(SINGLE)
    default = CAUTIOUS
    guidance = "calls"
    references = 3

    def image_length(self, call: Mapping[str, Any]) -> int:
        source = call.get("image_cond_hidden_states")
        return int(call["hidden_states"].shape[1]) + (0 if source is None else int(source.shape[1]))

    def generated(self, call: Mapping[str, Any]) -> int:
        return int(call["hidden_states"].shape[1])

    def instruction(self, pipeline: Any, arguments: Mapping[str, Any]) -> Any:
        prompt, processor = arguments.get("prompt"), pipeline.tokenizer
        if prompt is None or "prompt_upsampler" in pipeline.blocks.sub_blocks:
            return None

        def turn(words: str) -> Any:
            chat = [{"role": "user", "content": words}]
            return processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)

        def mask(call: Mapping[str, Any]) -> torch.Tensor:
            length = call["encoder_hidden_states"].shape[1]
            return words_in_turn(processor.tokenizer, turn, prompt, length, padding_side="right")

        return mask

    def size(self, pipeline: Any, width: int, height: int) -> tuple[int, int]:
        return by_area(width, height, pipeline.vae_scale_factor * 2)

    def arguments(self, pipeline: Any, request: Request) -> dict[str, Any]:
        return asked(request, all_resized(self, pipeline, request))


@hookimpl
def ctxrep_adapters() -> Iterable[Adapter]:
    return [Flux3()]
