"""The options that a caller hands through to the pipeline's own call."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from numbers import Integral
from typing import Any

from torch import Tensor

from ctxrep_edit.errors import InputError

OURS = (
    "image",
    "prompt",
    "num_images_per_prompt",
    "generator",
    "num_inference_steps",
    "mask_image",
    "output_type",
    "return_dict",
)
"""Arguments of a pipeline that `diverse_edit` sets itself."""
ALIAS = {"denoising_strength": "strength"}
"""Options by another name, as ours has theirs."""


def check_options(pipeline: Any, options: Mapping[str, Any]) -> None:
    """Raises InputError for an option that the pipeline does not take, or that is not the caller's to give."""
    accepted = set(inspect.signature(type(pipeline).__call__).parameters) - {"self"}
    for name in options:
        if ALIAS.get(name, name) not in accepted:
            near = difflib.get_close_matches(name, accepted - set(OURS), 1)
            hint = f"did you mean {near[0]}?" if near else f"it takes {', '.join(sorted(accepted - set(OURS)))}."
            raise InputError(f"{type(pipeline).__name__} has no option {name!r}: {hint}")
        if name in OURS:
            raise InputError(f"{name} is set by diverse_edit itself: use image, instruction, n, seed, steps and mask.")


def call_arguments(asked: Mapping[str, Any], options: Mapping[str, Any], n: int) -> dict[str, Any]:
    """The keyword arguments of a call for n particles: what model and adapter ask for, then the caller's options."""
    arguments = {**asked, **{ALIAS.get(name, name): value for name, value in options.items()}}
    if options.get("prompt_embeds") is not None:  # one row each, in place of the words
        arguments |= {"prompt": None, "num_images_per_prompt": 1}
        for name, value in options.items():
            if name.endswith("_embeds") and isinstance(value, Tensor) and len(value) == 1:
                arguments[name] = value.expand(n, *value.shape[1:])
    return {**arguments, "output_type": "pt"}


def pixels(side: str, options: Mapping[str, Any], default: int) -> int:
    """The width or height that the caller gave, else `default`. Raises InputError."""
    value = options.get(side)
    if value is not None and (not isinstance(value, Integral) or value < 1):
        raise InputError(f"{side} is {value!r}, but must be a whole number of pixels, at least 1.")
    return default if value is None else int(value)
