"""A model of transformers that a user names for a check, and pictures as it takes them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def named_model(name: str | None, variable: str, processor: Any, needs: str, kind: str = "model") -> tuple[Any, Any]:
    """The model of that name, or of the one in the environment variable, and its `processor`.

    needs: what a check says that is given neither. Raises ModelError.
    """
    from transformers import AutoModel

    from ctxrep_edit import ModelError

    name = name or os.environ.get(variable)
    if not name:
        raise ModelError(needs)
    try:
        return AutoModel.from_pretrained(name).eval(), processor.from_pretrained(name)
    except (OSError, ValueError) as error:
        cause = str(error).splitlines()[0].rstrip(".")
        raise ModelError(f"The {kind} {name!r} cannot be loaded: {cause}. Check the name.") from error


def bytes_of(images: Tensor) -> list[Tensor]:
    """(n, 3, h, w) in [0, 1] as pictures of 8 bits, as processors take them."""
    import torch

    return [(image.clamp(0, 1) * 255).round().to(torch.uint8) for image in images]
