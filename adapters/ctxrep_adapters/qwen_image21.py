"""Qwen-Image-2.1 that edits, a modular pipeline: its text never sees the picture that is made."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ctxrep_adapters.shared import CAUTIOUS, DOUBLE, MADE, CachedSource, VideoAutoencoder, asked, by_area, resized

from ctxrep_edit import Adapter, InputError, Request, Scope, hookimpl

if TYPE_CHECKING:
    import torch

ctxrep_api = "1.0"
SLOT = 4  # latent tokens that stand where the text encoder has one of a picture
OF_TEXT = ("context", "context+single", "paper")  # scopes of other families


class QwenImage21(CachedSource, VideoAutoencoder):
    """`QwenImage21ModularPipeline` and its Turbo. The joint stream is [text with the sources in it | target], and
    attention in it is block-causal: the text and the sources come before the target and never see it. So there is no
    contextual space, and the target's own tokens alone repel. From the second step on a cache has all before them.
    Pictures have transparency, which is laid on white.

    The default is a cautious one: nothing was measured on the trained models.
    """

    name = "qwen-image-2.1"
    pipelines = ("QwenImage21ModularPipeline", "QwenImage21TurboModularPipeline")
    streams = {DOUBLE: "joint"}
    scopes = {
        "middle": Scope(
            {DOUBLE: MADE}, "generated-image tokens of the middle half of the blocks", within={DOUBLE: (0.25, 0.75)}
        ),
        "generated": Scope({DOUBLE: MADE}, "generated-image tokens"),
    }
    default = CAUTIOUS
    guidance = "calls"
    references = 2

    def scope(self, name: str | None) -> Scope:
        if name in OF_TEXT:
            raise InputError(
                f"The scope {name!r} is one of text tokens, but those of Qwen-Image-2.1 never see the picture that is "
                f"made, so that they have nothing to repel by: choose one of {', '.join(self.scopes)}."
            )
        return super().scope(name)

    def image_length(self, call: Mapping[str, Any]) -> int:
        return math.prod(call["img_shapes"][0][-1])  # (frames, height, width) of the target, in tokens

    def text_length(self, call: Mapping[str, Any]) -> int:
        if call.get("kv_cache_mode") == "cached":
            return 0
        slots = call["img_mask"][0]  # (tokens of the text encoder,)
        return int(slots.shape[0] + (SLOT - 1) * slots.sum()) - self.image_length(call)

    def encode(self, pipeline: Any, pictures: torch.Tensor) -> torch.Tensor:
        import torch

        return super().encode(pipeline, torch.cat([pictures, torch.ones_like(pictures[:, :1])], 1))

    def decode(self, pipeline: Any, latents: torch.Tensor) -> torch.Tensor:
        decoded = super().decode(pipeline, latents)  # (n, 4, h, w)
        share = (decoded[:, 3:].clamp(-1, 1) + 1) / 2
        return decoded[:, :3] * share + 1 - share

    def size(self, pipeline: Any, width: int, height: int) -> tuple[int, int]:
        return by_area(width, height, pipeline.vae_scale_factor * 2)

    def arguments(self, pipeline: Any, request: Request) -> dict[str, Any]:
        return asked(request, [resized(request), *request.references])


@hookimpl
def ctxrep_adapters() -> Iterable[Adapter]:
    return [QwenImage21()]
