"""The options that a caller hands through to the pipeline's own call."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields
from typing import Any

from torch import Tensor

from ctxrep_edit.errors import InputError
from ctxrep_edit.sampling.calling import CALLBACK, TOLD, parameters
from ctxrep_edit.settings import Repulsion, is_count, is_number

OURS = {
    "image": "give the picture first",
    "prompt": "give the instruction",
    "num_images_per_prompt": "give n",
    "generator": "give seed",
    "num_inference_steps": "give steps",
    "mask_image": "give mask",
    "output_type": "each edit has its image, a PIL picture",
    "return_dict": "what comes back is an EditSet",
}
"""Arguments of a pipeline that `diverse_edit` sets itself, and what is for a caller instead."""
ALIAS = {"denoising_strength": "strength"}
"""Options by another name, as ours has theirs."""
SIDES = ("width", "height")
"""What an adapter sets and the caller may set instead: the size at which is edited follows from it."""
UNWANTED = "negative_prompt"
"""What an adapter may say where the caller does not."""
A_NUMBER = is_number, "a number"
WANTED: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    CALLBACK: (callable, "a function of (pipeline, step, timestep, tensors)"),
    TOLD: (
        lambda given: isinstance(given, Sequence) and not isinstance(given, str),
        "a list of names, such as ['latents']",
    ),
    "max_sequence_length": (is_count, "a whole number of tokens, at least 1"),
}
"""What these options must be, where they are given."""
IMPOSSIBLE = {
    "padding_mask_crop": "pictures come back as tensors here: crop picture and mask yourself, and paste the edits back",
}
"""Options that contradict how the pipeline is called, and why."""


def check_options(pipeline: Any, options: Mapping[str, Any], known: Collection[str]) -> None:
    """Raises InputError for an option that the pipeline does not take, or that is not the caller's to give.

    known: parameters that are no options, which a misspelt one may mean.
    """
    accepted = set(parameters(pipeline))
    theirs = {name for name in accepted if not name.startswith("_")} - set(OURS) - set(IMPOSSIBLE)
    settings = {field.name for field in fields(Repulsion)}
    for name, value in options.items():
        if ALIAS.get(name, name) not in accepted:
            if name in settings:
                raise InputError(f"{name} is a field of Repulsion: give repulsion=Repulsion({name}={value!r}).")
            near = difflib.get_close_matches(name, [*theirs, *known], 1)
            hint = f"did you mean {near[0]}?" if near else f"it takes {', '.join(sorted(theirs))}."
            raise InputError(f"{type(pipeline).__name__} has no option {name!r}: {hint}")
        if name in OURS:
            raise InputError(f"{name} is set by diverse_edit itself: {OURS[name]}.")
        if name in IMPOSSIBLE and value is not None:
            raise InputError(f"{name} is not possible: {IMPOSSIBLE[name]}.")
        wanted = WANTED.get(name, A_NUMBER if name.endswith("_scale") else None)
        if wanted is not None and value is not None and not wanted[0](value):
            raise InputError(f"{name} is {value!r}, but must be {wanted[1]}.")
    share = options.get("denoising_strength")
    if share is not None and not (is_number(share) and 0 < share <= 1):
        raise InputError(f"denoising_strength is {share!r}, but must be a number above 0 and up to 1: 0 edits nothing.")


def check_claimed(asked: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Raises InputError for an option that the adapter sets itself, other than the sides and what it sets where nobody
    does. asked: what it sets."""
    for name in options:
        if name in asked and name not in (*SIDES, UNWANTED):
            raise InputError(
                f"{name} is set for you, so that it fits the picture, and another one would edit something else: "
                "leave it out; width and height choose the size, denoising_strength how far an edit may go."
            )


def call_arguments(asked: Mapping[str, Any], options: Mapping[str, Any], n: int) -> dict[str, Any]:
    """The keyword arguments of a call for n particles: what model and adapter ask for, then the caller's options.

    Embeddings of one row, and their masks, are expanded to n. Raises InputError for another number of rows.
    """
    arguments = {**asked, **{ALIAS.get(name, name): value for name, value in options.items()}}
    if options.get("prompt_embeds") is not None:  # one row each, in place of the words
        arguments |= {"prompt": None, **({"num_images_per_prompt": 1} if "num_images_per_prompt" in asked else {})}
    if UNWANTED in asked and options.get(f"{UNWANTED}_embeds") is not None:
        arguments[UNWANTED] = options.get(UNWANTED)
    for name, value in options.items():
        if name.endswith(("_embeds", "_embeds_mask")) and isinstance(value, Tensor):
            if not value.ndim or len(value) not in (1, n):
                rows = len(value) if value.ndim else "no"
                raise InputError(f"{name} has {rows} rows for {n} edits: give one row for all of them, or {n}.")
            arguments[name] = value.expand(n, *value.shape[1:])
    return {**arguments, "output_type": "pt"}


def rows_of_their_own(options: Mapping[str, Any], n: int) -> Sequence[str]:
    """Which options have a row for each of n edits."""
    return [name for name, value in options.items() if isinstance(value, Tensor) and value.ndim and len(value) == n > 1]


def pixels(side: str, options: Mapping[str, Any], default: int) -> int:
    """The width or height that the caller gave, else `default`. Raises InputError."""
    value = options.get(side)
    if value is not None and not is_count(value):
        raise InputError(f"{side} is {value!r}, but must be a whole number of pixels, at least 1.")
    return default if value is None else int(value)
