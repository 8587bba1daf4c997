"""Masks: where an edit is allowed, or was made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from ctxrep_edit.errors import InputError
from ctxrep_edit.imaging.arrays import convert
from ctxrep_edit.imaging.reading import ImageLike, open_picture

if TYPE_CHECKING:
    import torch


def read_mask(mask: ImageLike, size: tuple[int, int], *, name: str = "mask") -> npt.NDArray[np.bool_]:
    """`mask` as a boolean array (H, W), True where the edit may happen.

    Takes the same kinds as `read_image`. White means edit: a pixel counts from 50 % grey upwards. A mask with
    transparent pixels follows OpenAI's convention instead: transparent means edit, and its colours are not looked at.
    `size` is the (width, height) of the picture, which the mask must have exactly.

    Raises `InputError` for what `read_image` refuses, for another size, and for a mask that marks no pixel.
    """
    picture = open_picture(mask, name)
    if picture.size != tuple(size):
        raise InputError(
            f"{name} is {picture.width} x {picture.height} pixels but its picture is {size[0]} x {size[1]}. "
            f"Resize the mask to {size[0]} x {size[1]}."
        )
    if picture.has_transparency_data:
        alpha = np.asarray(convert(picture, "RGBA", name).getchannel("A"))
        if alpha.min() < 255:
            return _not_empty(alpha < 128, f"no pixel of {name} is transparent enough (50 %)", name)
        picture = convert(convert(picture, "RGBA", name), "RGB", name)
    grey = np.asarray(convert(picture, "L", name))
    return _not_empty(grey >= 128, f"the brightest pixel of {name} is {grey.max()} of 255, below the half", name)


def mask_picture(mask: ImageLike, size: tuple[int, int]) -> Image.Image:
    """`read_mask` as a picture of mode L, white where the edit may happen."""
    return Image.fromarray(read_mask(mask, size)).convert("L")


def shrink_mask(mask: Image.Image, size: tuple[int, int]) -> torch.Tensor:
    """A mask of mode L at the (width, height) at which is edited or measured: bool (h, w), True from 50 % upwards.

    Raises `InputError` where so little is marked that nothing is left.
    """
    import torch

    small = torch.from_numpy(np.asarray(mask.resize(size)) >= 128)  # (h, w)
    if not small.any():
        raise InputError(
            f"mask marks less than a pixel once it is brought from {mask.width} x {mask.height} to the {size[0]} x "
            f"{size[1]} pixels that are worked at. Mark a larger region."
        )
    return small


def _not_empty(marked: npt.NDArray[np.bool_], reason: str, name: str) -> npt.NDArray[np.bool_]:
    if not marked.any():
        raise InputError(
            f"{name} marks nothing to edit: {reason}. "
            f"Paint the region to edit white (255, or 1.0, or True), or make it transparent."
        )
    return marked
