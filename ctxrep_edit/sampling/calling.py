"""Calling a pipeline, of either kind that diffusers has: of one class, or modular, put together from blocks."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from diffusers import ModularPipeline


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


def steps_of(pipeline: Any) -> int:
    """How many steps the run under way has; a modular pipeline leaves that to its scheduler."""
    if isinstance(pipeline, ModularPipeline):
        return len(pipeline.scheduler.timesteps)
    return int(pipeline.num_timesteps)
