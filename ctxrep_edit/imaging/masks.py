"""Masks: where an edit is allowed, or was made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from ctxrep_edit.errors import InputError
from ctxrep_edit.imaging.arrays import convert, is_clear
from ctxrep_edit.imaging.reading import ImageLike, open_picture

if TYPE_CHECKING:
    import torch

_ALIKE = 32  # levels of 255 within which colours are one, however a paint program rounded them


def read_mask(mask: ImageLike, size: tuple[int, int], *, name: str = "mask") -> npt.NDArray[np.bool_]:
    """`mask` as a boolean array (H, W), True where the edit may happen.

    Takes the same kinds as `read_image`. White means edit: a pixel counts from 50 % grey upwards. A mask with
    transparent pixels follows OpenAI's convention instead: transparent means edit, and its colours are not looked at.
    A layer of one colour painted on transparency could be meant either way, and is refused. `size` is the (width,
    height) of the picture. A mask of another size in the same aspect is resized to it.

    Raises `InputError` for what `read_image` refuses, for another aspect, for a painted layer, and for a mask that
    marks no pixel.
    """
    picture = open_picture(mask, name)
    _check_aspect(picture, size, name)
    if picture.has_transparency_data:
        layer = convert(picture, "RGBA", name)
        if is_clear(layer):
            _check_layer(layer, name)
            alpha = _resized(layer.getchannel("A"), size)
            return _not_empty(alpha < 128, f"no pixel of {name} is transparent enough (50 %)", name)
        picture = layer.convert("RGB")
    grey = _resized(convert(picture, "L", name), size)
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


def _check_aspect(mask: Image.Image, size: tuple[int, int], name: str) -> None:
    """Raises unless one of the sizes is the other, scaled and rounded."""
    (w, h), (width, height) = mask.size, size
    if min(abs(w * height / width - h), abs(width * h / w - height)) >= 1:
        raise InputError(
            f"{name} is {w} x {h} pixels but its picture is {width} x {height}, which is another aspect. "
            f"Crop or pad the mask to the aspect of {width} x {height}."
        )


def _resized(channel: Image.Image, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """By area where it gets smaller, by repetition where it gets larger: (h, w)."""
    return np.asarray(channel if channel.size == tuple(size) else channel.resize(size, Image.Resampling.BOX))


def _check_layer(layer: Image.Image, name: str) -> None:
    """Raises for an RGBA layer that reads as strokes of one colour, or as a sheet of it with a hole.

    A photograph with a hole has more colours than one, and a black sheet with a hole, or one colour also beneath all
    that is transparent, says nothing against its alpha.
    """
    pixels = np.asarray(layer)  # (h, w, 4)
    colours, opaque = pixels[..., :3], pixels[..., 3] >= 128
    shown = colours[opaque]  # (opaque pixels, 3)
    painted = shown[shown.max(axis=1) >= 128] if len(shown) else shown
    if not len(painted) or _span(painted) > _ALIKE or _span(colours.reshape(-1, 3)) <= _ALIKE:
        return
    if len(painted) < len(shown) and shown[shown.max(axis=1) < 128].max() > _ALIKE:
        return
    paint = tuple(int(value) for value in np.median(painted, axis=0))
    raise InputError(
        f"{name} can be read in two ways that mark opposite regions: painted or white means edit, and transparent "
        f"means edit. It shows one colour, {paint}, on transparency. To edit what is painted, lay it on black, or "
        f"give its alpha channel (mask.getchannel('A')); to edit what is transparent, paint the rest black."
    )


def _span(colours: npt.NDArray[np.uint8]) -> int:
    """The widest range of a channel over (n, 3)."""
    return int((colours.max(axis=0) - colours.min(axis=0)).max())


def _not_empty(marked: npt.NDArray[np.bool_], reason: str, name: str) -> npt.NDArray[np.bool_]:
    if not marked.any():
        raise InputError(
            f"{name} marks nothing to edit: {reason}. "
            f"Paint the region to edit white (255, or 1.0, or True), or make it transparent."
        )
    return marked
