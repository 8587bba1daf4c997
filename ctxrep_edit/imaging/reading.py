"""Pictures as people hand them over, turned into RGB.

Nothing else in ctxrep-edit looks at file types, bit depths, alpha or value ranges. Whatever cannot be used is an
`InputError`.
"""

from __future__ import annotations

import io
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from ctxrep_edit.errors import InputError
from ctxrep_edit.imaging.arrays import from_array, from_tensor

if TYPE_CHECKING:
    import torch

ImageLike: TypeAlias = "Image.Image | str | os.PathLike[str] | bytes | npt.NDArray[Any] | torch.Tensor"

MIN_SIDE = 8
"""Pixels: the shortest side of a picture that can be edited."""

LONGEST_ASPECT = 12
"""How many times as long as wide a picture may be that is edited or assessed."""


_BY_WAY_OF = {"LAB": "RGB", "La": "LA", "RGBa": "RGBA"}  # modes that Pillow converts to that one only
_KINDS = "a PIL image, a path, the bytes of an image file, a numpy array or a torch tensor"


def read_image(image: ImageLike, *, name: str = "image") -> Image.Image:
    """`image` as an RGB picture, upright, with any transparency laid on white.

    Takes a PIL image, a path, the bytes of an image file (the first frame of an animation), a numpy array
    (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), or a torch tensor (H, W), (C, H, W) or (1, C, H, W) with C of 1, 3
    or 4. Values: uint8 0 to 255, uint16 0 to 65535, float 0 to 1, or bool; an integer picture of PIL mode "I" counts
    as 16-bit and one of mode "F" as float 0 to 1. `name` is what error messages call the picture.

    A file may have as many pixels as Pillow opens at all, twice `PIL.Image.MAX_IMAGE_PIXELS`: 179 million unless that
    is changed. What is in memory already has no limit. Reading takes at most 17 bytes a pixel beside what was given.

    Raises `InputError` for anything else, for files that are missing, broken or above that limit, and for sides
    shorter than `MIN_SIDE`.
    """
    picture = open_picture(image, name)
    if min(picture.size) < MIN_SIDE:
        raise InputError(
            f"{name} is {picture.width} x {picture.height} pixels, too small to edit: "
            f"each side must have at least {MIN_SIDE}. Give a larger picture."
        )
    if picture.has_transparency_data:
        picture = convert(picture, "RGBA", name)
        page = Image.new("RGB", picture.size, "white")
        page.paste(picture, mask=picture)
        return page
    return picture if picture.mode == "RGB" and picture is not image else convert(picture, "RGB", name)


def check_aspect(picture: Image.Image, name: str) -> None:
    """Raises `InputError` where `picture` is more than `LONGEST_ASPECT` times as long as wide."""
    if max(picture.size) > LONGEST_ASPECT * min(picture.size):
        raise InputError(
            f"{name} is {picture.width} x {picture.height} pixels, too long and narrow: give a part of it that is at "
            f"most {LONGEST_ASPECT} times as long as wide."
        )


def open_picture(image: ImageLike, name: str) -> Image.Image:
    """Any accepted kind as an upright PIL image of at most 8 bits a channel, its mode otherwise untouched."""
    torch = sys.modules.get("torch")  # whoever hands over a tensor has imported torch
    if torch is not None and isinstance(image, torch.Tensor):
        return from_array(from_tensor(image, name), name)
    if isinstance(image, np.ndarray):
        return from_array(image, name)
    if isinstance(image, Image.Image):
        picture = _load(image, name)
    elif isinstance(image, bytes | bytearray):
        picture = _load(io.BytesIO(image), name)
    elif isinstance(image, str | os.PathLike):
        picture = _load(_existing(image, name), name)
    else:
        raise InputError(f"{name} is of type {type(image).__name__}, which is no picture. Give {_KINDS}.")
    if 0 in picture.size:
        raise InputError(f"{name} has no pixels: its size is {picture.width} x {picture.height}.")
    if picture.mode == "F":
        return from_array(np.asarray(picture), name)
    if picture.mode.startswith("I"):  # 16 bits, or 32 that hold 16; Pillow's own conversion clips at 255
        deep = np.asarray(picture)
        if deep.min() < 0 or deep.max() > 65535:
            raise InputError(
                f"{name} is an integer picture with values {deep.min()} to {deep.max()}, beyond 16 bits. "
                f"Scale it to 0 ... 65535, or to 0 ... 1 as floats."
            )
        return from_array(deep.astype(np.uint16), name)
    return picture


def _existing(path: str | os.PathLike[str], name: str) -> Path:
    """The path, once it is known to lead to something that is not a folder."""
    shown = str(path) if len(str(path)) <= 200 else f"{str(path)[:200]}..."
    if shown.startswith(("http://", "https://", "data:")):
        raise InputError(f"{name} is the address {shown}, which is not fetched. Download it and give the file.")
    try:
        found = Path(path).expanduser()
        is_folder, exists = found.is_dir(), found.exists()
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} cannot be opened at {shown!r}: {error}. Check the path.") from error
    if is_folder:
        raise InputError(f"{name} is the folder {shown!r}, not a picture. Give one file in it.")
    if not exists:
        raise InputError(f"{name} does not exist: there is no file {shown!r}. Check the path.")
    return found


def _load(source: Image.Image | Path | io.BytesIO, name: str) -> Image.Image:
    """Decode fully and turn upright, with every way in which that fails put into words."""
    origin = f"{name} ({source})" if isinstance(source, Path) else name
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # up to twice the limit Pillow only warns
            picture = source if isinstance(source, Image.Image) else Image.open(source)
            picture.load()
        turned = picture.getexif().get(ExifTags.Base.Orientation, 1) != 1
        return ImageOps.exif_transpose(picture) if turned else picture
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{origin} is too large to open safely: {str(error).rstrip('.')}. Make it smaller, or, if you trust the "
            "file, raise the limit first: PIL.Image.MAX_IMAGE_PIXELS = <half of its pixels>."
        ) from error
    except MemoryError as error:
        raise InputError(f"{origin} does not fit in memory. Make it smaller, or free some.") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{origin} is not an image in a format that Pillow reads. Save it as PNG or JPEG.") from error
    except PermissionError as error:
        raise InputError(f"{origin} may not be read: {error.strerror}. Change the file's permissions.") from error
    except Exception as error:  # a damaged file makes Pillow raise almost anything
        raise InputError(
            f"{origin} is truncated or broken: {error or type(error).__name__}. Export or download it again."
        ) from error


def convert(picture: Image.Image, mode: str, name: str) -> Image.Image:
    try:
        if picture.mode in _BY_WAY_OF:
            picture = picture.convert(_BY_WAY_OF[picture.mode])
        return picture.convert(mode)
    except (ValueError, OSError) as error:
        raise InputError(f"{name} has mode {picture.mode}: {error}. Convert it to RGB and give it again.") from error
