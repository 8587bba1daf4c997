"""Which text tokens carry the instruction, as callers and adapters say it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ctxrep_edit.errors import InputError

if TYPE_CHECKING:
    from ctxrep_edit.plugins.adapter import Words


def checked_words(given: Any, name: str = "instruction") -> Words:
    """A tensor, array or list of booleans as bool (tokens,); functions and None as they are. Raises InputError.

    name: of what was given, for messages.
    """
    return given if given is None or callable(given) else _mask(given, name)


def words_in(call: Mapping[str, Any], words: Words) -> Tensor | None:
    """The mask, bool (tokens,), for a call of the transformer with these keyword arguments. Raises InputError."""
    if not callable(words):
        return words
    found = words(call)
    return None if found is None else _mask(found, "What the adapter's instruction gives")


def _mask(given: Any, name: str) -> Tensor:
    try:
        mask = torch.as_tensor(given, device="cpu")
    except (TypeError, ValueError, RuntimeError):
        mask = torch.empty(0, device="cpu")
    if mask.dtype != torch.bool or mask.ndim != 1 or not mask.any():
        raise InputError(
            f"{name} must say of each text token whether it carries the instruction: bool (tokens,), True for at least "
            "one. A tokenizer's attention_mask[0] is one as attention_mask[0].bool()."
        )
    return mask
