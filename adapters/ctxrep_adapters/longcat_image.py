"""LongCat-Image that edits: vision tokens of the source, then the instruction, padded, in the text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ctxrep_adapters.shared import CAUTIOUS, TWO_LISTS, asked, check_guidance, of_its_own_size, of_packed, words_before

from ctxrep_edit import Adapter, InputError, Request, hookimpl

if TYPE_CHECKING:
    import torch

ctxrep_api = "1.0"
AREA = 1024 * 1024  # pixels at which the pipeline edits
MADE = 1  # the first position id of the generated tokens; references have 2


class LongCatImageEdit(Adapter):
    """`LongCatImageEditPipeline`, which takes no size but makes its own, and no callback. What stands in quotes in the
    instruction is tokenized letter by letter. Guidance is a second call of the transformer.

    The default is a cautious one: nothing was measured on the trained model.
    """

    name = "longcat-image-edit"
    pipelines = ("LongCatImageEditPipeline",)
    streams = {"transformer_blocks": ("text", "image"), "single_transformer_blocks": ("text", "image")}
    scopes = TWO_LISTS
    default = CAUTIOUS
    guidance = "calls"

    def generated(self, call: Mapping[str, Any]) -> int:
        return int((call["img_ids"][:, 0] == MADE).sum())  # (tokens, 3)

    def instruction(self, pipeline: Any, arguments: Mapping[str, Any]) -> Any:
        if arguments.get("prompt") is None:
            return None
        words = _count(pipeline, arguments["prompt"])
        left = pipeline.tokenizer.padding_side == "left"
        return words_before(0 if left else pipeline.tokenizer_max_length - words, words)

    def unpacked(self, pipeline: Any, latents: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        return of_packed(pipeline, latents, size)

    def size(self, pipeline: Any, width: int, height: int) -> tuple[int, int]:
        from diffusers.pipelines.longcat_image import pipeline_longcat_image_edit

        wide, high = pipeline_longcat_image_edit.calculate_dimensions(AREA, width / height)
        unit = pipeline.vae_scale_factor * 2
        return int(wide) // unit * unit, int(high) // unit * unit

    def check_call(self, pipeline: Any, arguments: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        check_guidance(pipeline, arguments, options, "guidance_scale")

    def arguments(self, pipeline: Any, request: Request) -> dict[str, Any]:
        words, most = _count(pipeline, request.instruction), pipeline.tokenizer_max_length
        if words > most:  # where it would be cut off, diffusers 0.42.1 fails
            raise InputError(f"The instruction is {words} tokens long, but {self.name} reads {most}: use fewer words.")
        return asked(request, of_its_own_size(self, pipeline, request), sized=False)


def _count(pipeline: Any, prompt: str) -> int:
    """How many tokens the pipeline makes of an instruction."""
    from diffusers.pipelines.longcat_image.pipeline_longcat_image_edit import split_quotation

    pieces = [piece for part, quoted in split_quotation(prompt) for piece in (part if quoted else [part])]
    return sum(len(pipeline.tokenizer(piece, add_special_tokens=False)["input_ids"]) for piece in pieces)


@hookimpl
def ctxrep_adapters() -> Iterable[Adapter]:
    return [LongCatImageEdit()]
