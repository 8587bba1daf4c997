"""Adapters that are wrong in one thing each, for the tests of the conformance kit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from ctxrep_adapters.flux_kontext import FluxKontext
from ctxrep_adapters.qwen_image import QwenImageEdit
from ctxrep_adapters.sd3 import Img2Img

from ctxrep_edit import Repulsion, Scope
from ctxrep_edit.plugins.adapter import Request

WORDS = frozenset({"instruction"})


class OfAnotherClass(FluxKontext):
    pipelines = ("FluxContextPipeline",)


class NoDefault(FluxKontext):
    default = Repulsion(scope="all")


class NoBlocks(FluxKontext):
    streams = {"blocks": ("text", "image")}


class NotStreamed(FluxKontext):
    streams = {"single_transformer_blocks": ("text", "image")}


class NoPart(FluxKontext):
    scopes = {"middle": Scope({"transformer_blocks": frozenset({"words"})}, "instruction tokens")}


class Heavy(FluxKontext):
    """Stands for one whose module imports torch."""

    __module__ = "torch"


class Foreseeing(FluxKontext):
    def unpacked(self, pipeline: Any, latents: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        return 2 * super().unpacked(pipeline, latents, size)


class Meddling(FluxKontext):
    def instruction(self, pipeline: Any, arguments: Mapping[str, Any]) -> torch.Tensor | None:
        pipeline.transformer.proj_out.weight.data *= 1.5
        return super().instruction(pipeline, arguments)


class _Arguments(FluxKontext):
    """Changes the arguments of the pipeline's call."""

    def arguments(self, pipeline: Any, request: Request) -> dict[str, Any]:
        return {**super().arguments(pipeline, request), **self.changes(pipeline, request)}

    def changes(self, pipeline: Any, request: Request) -> dict[str, Any]:
        raise NotImplementedError


class OnePicture(_Arguments):
    def changes(self, pipeline: Any, request: Request) -> dict[str, Any]:
        return {"num_images_per_prompt": 1, "generator": request.generators[0]}


class Unscaled(_Arguments):
    def changes(self, pipeline: Any, request: Request) -> dict[str, Any]:
        pipeline.image_processor.register_to_config(do_normalize=False)
        return {}


class Float32(_Arguments):
    def changes(self, pipeline: Any, request: Request) -> dict[str, Any]:
        words, pooled, _ = pipeline.encode_prompt("x", None, max_sequence_length=16)
        n = len(request.generators)
        embeds = {"prompt_embeds": words.float(), "pooled_prompt_embeds": pooled.float()}
        return {"prompt": None, "num_images_per_prompt": 1} | {k: v.expand(n, *v.shape[1:]) for k, v in embeds.items()}


class Random(_Arguments):
    def changes(self, pipeline: Any, request: Request) -> dict[str, Any]:
        return {"generator": [torch.Generator().manual_seed(torch.seed() % 2**32) for _ in request.generators]}


class Reversed(_Arguments):
    def changes(self, pipeline: Any, request: Request) -> dict[str, Any]:
        return {"generator": list(request.generators)[::-1]}


class OneSeed(_Arguments):
    def changes(self, pipeline: Any, request: Request) -> dict[str, Any]:
        return {"generator": [torch.Generator().manual_seed(0) for _ in request.generators]}


class OwnSteps(_Arguments):
    def changes(self, pipeline: Any, request: Request) -> dict[str, Any]:
        return {"num_inference_steps": 2}


class NeedsMask(_Arguments):
    def changes(self, pipeline: Any, request: Request) -> dict[str, Any]:
        request.mask.resize(request.size)  # type: ignore[union-attr]
        return {}


class Rounded(FluxKontext):
    def size(self, pipeline: Any, width: int, height: int) -> tuple[int, int]:
        w, h = super().size(pipeline, width, height)
        return w + 4, h + 4


class Turned(FluxKontext):
    def size(self, pipeline: Any, width: int, height: int) -> tuple[int, int]:
        return super().size(pipeline, width, height)[::-1]


class OtherModule(FluxKontext):
    def transformer(self, pipeline: Any) -> torch.nn.Module:
        from ctxrep_edit.testing import tiny_pipeline

        return tiny_pipeline().transformer


class NoEffect(FluxKontext):
    """Its transformer does not say anything: what the blocks do is not seen in the picture."""

    def instruction(self, pipeline: Any, arguments: Mapping[str, Any]) -> torch.Tensor | None:
        pipeline.transformer.proj_out.weight.data.zero_()
        return super().instruction(pipeline, arguments)


class Leaky(FluxKontext):
    def transformer(self, pipeline: Any) -> torch.nn.Module:
        module = super().transformer(pipeline)
        module.transformer_blocks[0].register_forward_hook(lambda *_: None)
        return module


class OtherScope(FluxKontext):
    """Repels in another scope than the one that was asked for."""

    def scope(self, name: str | None) -> Scope:
        return super().scope("generated")


class AllGenerated(FluxKontext):
    default = Repulsion(scope="double")

    def generated(self, call: Mapping[str, Any]) -> None:  # type: ignore[override]
        return None


class Swapped(FluxKontext):
    streams = {"transformer_blocks": ("image", "text"), "single_transformer_blocks": ("image", "text")}


class LongWords(FluxKontext):
    def instruction(self, pipeline: Any, arguments: Mapping[str, Any]) -> torch.Tensor | None:
        return super().instruction(pipeline, {"prompt": arguments["prompt"]})


class NoWords(FluxKontext):
    def instruction(self, pipeline: Any, arguments: Mapping[str, Any]) -> torch.Tensor | None:
        return torch.zeros(16, dtype=torch.bool)


class Padded(FluxKontext):
    """Takes the padding for words."""

    def instruction(self, pipeline: Any, arguments: Mapping[str, Any]) -> torch.Tensor | None:
        return torch.ones(16, dtype=torch.bool)


class _OtherWords(QwenImageEdit):
    """Finds the words elsewhere."""

    def instruction(self, pipeline: Any, arguments: Mapping[str, Any]) -> Any:
        mask: Any = super().instruction(pipeline, arguments)
        return lambda call: self.marked(mask(call))

    def marked(self, words: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


class VisionOnly(_OtherWords):
    """Takes the tokens of the source picture for the words."""

    def marked(self, words: torch.Tensor) -> torch.Tensor:
        return torch.arange(len(words)) < words.nonzero().min()


class VisionToo(_OtherWords):
    def marked(self, words: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(words)


class Pictures(QwenImageEdit):
    """Hands pictures to an autoencoder of videos."""

    def encode(self, pipeline: Any, pictures: torch.Tensor) -> torch.Tensor:
        return Img2Img().encode(pipeline, pictures)


class Videos(QwenImageEdit):
    """Gets videos from an autoencoder of videos."""

    def decode(self, pipeline: Any, latents: torch.Tensor) -> torch.Tensor:
        return Img2Img().decode(pipeline, latents)


class WrongHalf(Img2Img):
    guidance = ("conditional", "unconditional")


class OtherRows(FluxKontext):
    """Gives the last rows whichever are asked for."""

    def rows(self, call: Mapping[str, Any], rows: Sequence[int], batch: int) -> dict[str, Any]:
        return super().rows(call, [batch - 1] * len(rows), batch)
