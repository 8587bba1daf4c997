"""Z-Image Omni: one joint stream [caption | references and target | SigLIP], each picture and text padded by itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ctxrep_adapters.shared import CAUTIOUS, all_resized, asked, by_area, check_guidance, one_list

from ctxrep_edit import Adapter, Request, hookimpl

if TYPE_CHECKING:
    import torch

ctxrep_api = "1.0"
MULTIPLE = 32  # what the transformer pads each text and picture to, in tokens
PATCH = 2  # latents a side that are one token
BLOCKS = "layers"


class ZImageOmni(Adapter):
    """`ZImageOmniPipeline`. The caption is in pieces, with a picture between each two of them; the instruction is in
    the last but one. Guidance is one batch, [positive | negative]. `cfg_truncation` below 1, which ends guidance early,
    is none that a window may reach into. diffusers 0.42.1 encodes the source in bfloat16, whatever the autoencoder has.

    The default is a cautious one: nothing was measured on the trained model.
    """

    name = "z-image-omni"
    pipelines = ("ZImageOmniPipeline",)
    streams = {BLOCKS: "joint"}
    scopes = one_list(BLOCKS)
    default = CAUTIOUS
    guidance = ("conditional", "unconditional")
    references = 2

    def latents(self, call: Mapping[str, Any]) -> torch.Tensor:
        """The latents themselves are lists of lists; the timesteps have a row for each."""
        timesteps: torch.Tensor = call["t"]
        return timesteps

    def timestep(self, call: Mapping[str, Any]) -> float:
        return -float(call["t"][0])  # it is given 1 - sigma

    def text_length(self, call: Mapping[str, Any]) -> int:
        return _caption(call, 0)

    def generated(self, call: Mapping[str, Any]) -> torch.Tensor:
        import torch

        length = max(_length(call, i) for i in range(len(call["x"]))) - _caption(call, 0)
        made = torch.zeros(length, dtype=torch.bool, device="cpu")
        start = sum(_padded(_tokens(latents)) for latents in call["x"][0][:-1])
        made[start : start + _tokens(call["x"][0][-1])] = True
        return made

    def instruction(self, pipeline: Any, arguments: Mapping[str, Any]) -> Any:
        import torch

        prompt = arguments.get("prompt")
        if prompt is None:
            return None
        start, words = (len(pipeline.tokenizer(text)["input_ids"]) for text in ("<|vision_end|>", prompt))

        def mask(call: Mapping[str, Any]) -> torch.Tensor:
            pieces = call["cap_feats"][0]
            marked = torch.zeros(_caption(call, 0), dtype=torch.bool, device="cpu")
            first = sum(_padded(len(piece)) for piece in pieces[:-2]) + start
            marked[first : first + min(words, len(pieces[-2]) - start)] = True
            return marked

        return mask

    def size(self, pipeline: Any, width: int, height: int) -> tuple[int, int]:
        return by_area(width, height, pipeline.vae_scale_factor * 2)

    def check_call(self, pipeline: Any, arguments: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        check_guidance(pipeline, arguments, options, "guidance_scale", above=0.0)

    def arguments(self, pipeline: Any, request: Request) -> dict[str, Any]:
        return asked(request, all_resized(self, pipeline, request))


def _padded(count: int) -> int:
    return count + -count % MULTIPLE


def _tokens(latents: torch.Tensor) -> int:
    frames, height, width = latents.shape[1:]  # (channels, frames, h, w)
    return frames * (height // PATCH) * (width // PATCH)


def _caption(call: Mapping[str, Any], row: int) -> int:
    return sum(_padded(len(piece)) for piece in call["cap_feats"][row])


def _length(call: Mapping[str, Any], row: int) -> int:
    """Of the joint stream; SigLIP has tokens for each picture, and a place for the target."""
    pictures = sum(_padded(_tokens(latents)) for latents in call["x"][row])
    seen = sum(_padded(1 if grid is None else grid[..., 0].numel()) for grid in call["siglip_feats"][row] or ())
    return _caption(call, row) + pictures + seen


@hookimpl
def ctxrep_adapters() -> Iterable[Adapter]:
    return [ZImageOmni()]
