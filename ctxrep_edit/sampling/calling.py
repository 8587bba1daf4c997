"""Calling a pipeline, of either kind that diffusers has: of one class, or modular, put together from blocks."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from diffusers import ModularPipeline
from torch import Tensor

CALLBACK = "callback_on_step_end"
TOLD = "callback_on_step_end_tensor_inputs"


def parameters(pipeline: Any) -> Mapping[str, Any]:
    """What its call takes, by name, with the defaults; None where there is none."""
    if isinstance(pipeline, ModularPipeline):
        return {given.name: given.default for given in pipeline.blocks.inputs if given.name}
    known = inspect.signature(type(pipeline).__call__).parameters.values()
    return {one.name: None if one.default is one.empty else one.default for one in known if one.name != "self"}


def pictures(pipeline: Any, arguments: Mapping[str, Any]) -> Any:
    """What the pipeline makes of these arguments of its call."""
    if isinstance(pipeline, ModularPipeline):
        return pipeline(**arguments, output="images")
    return pipeline(**arguments).images


def with_bars(pipeline: Any) -> Sequence[Any]:
    """What shows a progress bar: the pipeline, or of a modular one each block, however deep, that loops."""
    if not isinstance(pipeline, ModularPipeline):
        return [pipeline]
    blocks, found = [pipeline._blocks], []
    while blocks:
        block = blocks.pop()
        blocks += block.sub_blocks.values()
        if hasattr(block, "set_progress_bar_config"):
            found.append(block)
    return found


def opaque(images: Tensor) -> Tensor:
    """Pictures in [0, 1], (n, 3 or 4, h, w), with their transparency, if any, laid on white: (n, 3, h, w)."""
    if images.ndim != 4 or images.shape[1] != 4:
        return images
    colour, share = images[:, :3], images[:, 3:]
    return colour * share + 1 - share


def steps_of(pipeline: Any) -> int:
    """How many steps the run under way has; a modular pipeline leaves that to its scheduler."""
    if isinstance(pipeline, ModularPipeline):
        return len(pipeline.scheduler.timesteps)
    return int(pipeline.num_timesteps)
