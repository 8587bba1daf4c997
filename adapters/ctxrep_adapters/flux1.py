"""FLUX.1 that edits beside Kontext: Fill, whose source is on channels, image to image, and inpainting."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ctxrep_adapters.flux_kontext import FluxKontext
from ctxrep_adapters.shared import CAUTIOUS, TWO_LISTS, asked, by_area, check_embedded, mask_of, resized

from ctxrep_edit import Adapter, Request, hookimpl

ctxrep_api = "1.0"


class FluxImg2Img(FluxKontext):
    """`FluxImg2ImgPipeline`: starts from the noised source; `denoising_strength` says how far from it. All image tokens
    are generated. Guidance is distilled, or a second call where a negative prompt is given.

    The default of this and of those below is a cautious one: nothing was measured on the trained models.
    """

    name = "flux1-img2img"
    pipelines: tuple[str, ...] = ("FluxImg2ImgPipeline",)
    scopes = TWO_LISTS
    default = CAUTIOUS
    measured_on = ""

    def generated(self, call: Mapping[str, Any]) -> None:  # type: ignore[override]
        return None

    def size(self, pipeline: Any, width: int, height: int) -> tuple[int, int]:
        return by_area(width, height, pipeline.vae_scale_factor * 2)

    def arguments(self, pipeline: Any, request: Request) -> dict[str, Any]:
        return asked(request, [resized(request)] * len(request.generators))  # it encodes one per generator


class FluxInpaint(FluxImg2Img):
    """`FluxInpaintPipeline`: image to image, and outside the mask the noised source again after each step."""

    name = "flux1-inpaint"
    pipelines: tuple[str, ...] = ("FluxInpaintPipeline",)

    def arguments(self, pipeline: Any, request: Request) -> dict[str, Any]:
        return {**super().arguments(pipeline, request), "mask_image": mask_of(pipeline, request)}


class FluxFill(FluxInpaint):
    """`FluxFillPipeline`: the transformer sees the source without what is inside the mask, and the mask, as channels
    beside the noisy latents. It takes no negative prompt."""

    name = "flux1-fill"
    pipelines = ("FluxFillPipeline",)

    def check_call(self, pipeline: Any, arguments: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        check_embedded(pipeline, options)


@hookimpl
def ctxrep_adapters() -> Iterable[Adapter]:
    return [FluxFill(), FluxImg2Img(), FluxInpaint()]
