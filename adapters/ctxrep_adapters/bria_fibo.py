"""Bria FIBO that edits: its prompt is JSON, and it writes over half of the text's channels before each block."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ctxrep_adapters.shared import (
    CAUTIOUS,
    DOUBLE,
    SINGLE,
    TWO_LISTS,
    VideoAutoencoder,
    asked,
    check_guidance,
    first_frame,
    resized,
)

from ctxrep_edit import Adapter, Request, hookimpl

ctxrep_api = "1.0"
AREA = 1024 * 1024
LENGTH = 3000  # of the pipeline's max_sequence_length
KEY = "edit_instruction"
LOWER = {DOUBLE: (0.0, 0.5), SINGLE: (0.0, 0.5)}
"""The channels of the text that go on to the next block. The others are written over with a layer of the text encoder,
so that a push in them would be lost."""


class BriaFiboEdit(VideoAutoencoder):
    """`BriaFiboEditPipeline`. An instruction in plain words becomes the JSON that the pipeline asks for, with nothing
    else in it; JSON with an "edit_instruction" is handed on as it is, and all of it counts as words then. Guidance is
    one batch, [negative | positive].

    The default is a cautious one: nothing was measured on the trained model.
    """

    name = "bria-fibo-edit"
    pipelines = ("BriaFiboEditPipeline",)
    streams = {DOUBLE: ("text", "image"), SINGLE: "joint"}
    scopes = {name: replace(scope, channels=LOWER) for name, scope in TWO_LISTS.items()}
    default = CAUTIOUS
    guidance = ("unconditional", "conditional")
    references = 3

    def guided(self, pipeline: Any) -> bool:
        return bool(pipeline.guidance_scale > 1)

    def generated(self, call: Mapping[str, Any]) -> int:
        return first_frame(call)

    def instruction(self, pipeline: Any, arguments: Mapping[str, Any]) -> Any:
        import torch

        prompt = arguments.get("prompt")
        if prompt is None:
            return None
        before, after = (f'{{"{KEY}": "', '"}') if list(json.loads(prompt)) == [KEY] else ("", "")
        options = {"truncation": True, "max_length": arguments.get("max_sequence_length", LENGTH)}
        tokens = pipeline.tokenizer(prompt, return_offsets_mapping=True, return_tensors="pt", **options)
        first, last = tokens["offset_mapping"][0].unbind(1)  # (tokens,), characters of the prompt
        known = (last > len(before)) & (first < len(prompt) - len(after)) & (last > first)

        def mask(call: Mapping[str, Any]) -> torch.Tensor:
            length = call["encoder_hidden_states"].shape[1]  # longer where the negative prompt is
            words = torch.zeros(length, dtype=torch.bool, device="cpu")
            words[: len(known)] = known
            return words

        return mask

    def size(self, pipeline: Any, width: int, height: int) -> tuple[int, int]:
        from diffusers.pipelines.bria_fibo import pipeline_bria_fibo_edit

        known = pipeline_bria_fibo_edit.PREFERRED_RESOLUTION[AREA]
        wide, high = min(known, key=lambda size: abs(size[0] / size[1] - width / height))
        return wide, high

    def check_call(self, pipeline: Any, arguments: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        check_guidance(pipeline, arguments, options, "guidance_scale")

    def arguments(self, pipeline: Any, request: Request) -> dict[str, Any]:
        from diffusers.pipelines.bria_fibo.pipeline_bria_fibo_edit import is_valid_edit_json

        words, picture = request.instruction, resized(request)
        out = asked(request, [picture, *request.references])
        out["prompt"] = words if is_valid_edit_json(words) else json.dumps({KEY: words}, ensure_ascii=False)
        if request.mask is not None:  # what is inside is greyed out
            out["mask"] = request.mask.resize(request.size)
        return out


@hookimpl
def ctxrep_adapters() -> Iterable[Adapter]:
    return [BriaFiboEdit()]
