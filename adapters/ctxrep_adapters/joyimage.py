"""JoyImage that edits: blocks return (image, text), sizes are those of a list, the autoencoder is one of videos."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ctxrep_adapters.shared import (
    CAUTIOUS,
    VideoAutoencoder,
    asked,
    check_guidance,
    of_its_own_size,
    one_list,
    words_before,
)

from ctxrep_edit import Adapter, Request, hookimpl

if TYPE_CHECKING:
    from PIL import Image

ctxrep_api = "1.0"
PATCH = 2  # latents a side that are one token
BLOCKS = "double_blocks"


class JoyImageEdit(VideoAutoencoder):
    """`JoyImageEditPipeline`. The text is [vision tokens of the source | instruction | end of the turn]; guidance is a
    second call, and the pipeline scales the guided prediction to the norm of the conditional one. Pictures in one of
    its sizes are not cropped. It draws noise for the encoding of its source past the generators.

    The default of both is a cautious one: nothing was measured on the trained models.
    """

    name = "joyimage-edit"
    pipelines: tuple[str, ...] = ("JoyImageEditPipeline",)
    streams = {BLOCKS: ("image", "text")}
    scopes = one_list(BLOCKS)
    default = CAUTIOUS
    guidance: Any = "calls"
    draws_unasked = True
    decodes_fewer = False

    def generated(self, call: Mapping[str, Any]) -> int:
        height, width = call["hidden_states"].shape[-2:]  # (batch, pictures, channels, 1, h, w)
        return int(height // PATCH * (width // PATCH))

    def instruction(self, pipeline: Any, arguments: Mapping[str, Any]) -> Any:
        prompt = arguments.get("prompt")
        if prompt is None:
            return None
        prompt = prompt[0] if isinstance(prompt, list) else prompt
        after = "<|im_end|>\n" + pipeline.prompt_template_encode["multiple_images"].partition("{}")[2]
        words, tail = (len(pipeline.tokenizer(text)["input_ids"]) for text in (prompt, after))
        return words_before(tail, words)

    def size(self, pipeline: Any, width: int, height: int) -> tuple[int, int]:
        processor = getattr(pipeline, "vae_image_processor", pipeline.image_processor)
        high, wide = processor.get_default_height_width(None, height, width)
        return wide, high

    def check_call(self, pipeline: Any, arguments: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        check_guidance(pipeline, arguments, options, "guidance_scale")

    def arguments(self, pipeline: Any, request: Request) -> dict[str, Any]:
        return asked(request, of_its_own_size(self, pipeline, request))


class JoyImageEditPlus(JoyImageEdit):
    """`JoyImageEditPlusPipeline`: several pictures; one prompt, and a list of pictures, for each edit. Guidance is one
    batch, [negative | positive]."""

    name = "joyimage-edit-plus"
    pipelines = ("JoyImageEditPlusPipeline",)
    guidance = ("unconditional", "conditional")
    draws_unasked = False
    references = 3

    def generated(self, call: Mapping[str, Any]) -> int:
        return math.prod(call["shape_list"][0][0])  # (frames, height, width) in tokens of what is made

    def arguments(self, pipeline: Any, request: Request) -> dict[str, Any]:
        out = asked(request, None)
        n = out.pop("num_images_per_prompt")
        del out["image"]
        pictures = [of_its_own_size(self, pipeline, request), *(self.fitted(pipeline, p) for p in request.references)]
        return {**out, "prompt": [request.instruction] * n, "images": [pictures] * n}

    def fitted(self, pipeline: Any, picture: Image.Image) -> Image.Image:
        """A further picture in one of the sizes, so that nothing of it is cropped."""
        return picture.resize(self.size(pipeline, *picture.size))


@hookimpl
def ctxrep_adapters() -> Iterable[Adapter]:
    return [JoyImageEdit(), JoyImageEditPlus()]
