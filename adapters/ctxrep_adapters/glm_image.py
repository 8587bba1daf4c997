"""GLM-Image that edits: a language model writes what the picture is to be; the text stream holds glyphs alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ctxrep_adapters.shared import CAUTIOUS, DOUBLE, MADE, WORDS, all_resized, asked, by_area, check_guidance

from ctxrep_edit import Adapter, Request, Scope, hookimpl

ctxrep_api = "1.0"


class GlmImage(Adapter):
    """`GlmImagePipeline`. The instruction is read by a language model, whose tokens of the picture all edits of a set
    share, as torch's own generator is seeded by the first one for it, and set back. The text stream has what stands in
    quotes, or one token where nothing does; as it reads the picture it repels, as "instruction". The source is in a
    cache, which a call of the transformer before the first step fills. Guidance is a second call.

    The default is a cautious one: nothing was measured on the trained model.
    """

    name = "glm-image"
    pipelines = ("GlmImagePipeline",)
    streams = {DOUBLE: ("image", "text")}
    scopes = {
        "context": Scope({DOUBLE: WORDS}, "glyph tokens"),
        "middle": Scope(
            {DOUBLE: WORDS | MADE},
            "glyph and generated-image tokens of the middle half of the blocks",
            within={DOUBLE: (0.25, 0.75)},
        ),
        "generated": Scope({DOUBLE: WORDS | MADE}, "glyph and generated-image tokens"),
    }
    default = CAUTIOUS
    guidance = "calls"
    draws_unasked = True
    references = 2

    def denoises(self, call: Mapping[str, Any]) -> bool:
        caches = call.get("kv_caches")
        return caches is None or caches[0].mode != "write"

    def size(self, pipeline: Any, width: int, height: int) -> tuple[int, int]:
        return by_area(width, height, pipeline.vae_scale_factor * pipeline.transformer.config.patch_size * 2)

    def check_call(self, pipeline: Any, arguments: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        check_guidance(pipeline, arguments, options, "guidance_scale")

    def arguments(self, pipeline: Any, request: Request) -> dict[str, Any]:
        return asked(request, all_resized(self, pipeline, request))


@hookimpl
def ctxrep_adapters() -> Iterable[Adapter]:
    return [GlmImage()]
