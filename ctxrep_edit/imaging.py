"""Pictures and masks as people hand them over, turned into one form.

Every picture becomes an RGB `PIL.Image`, every mask a boolean array; nothing else in ctxrep-edit looks at file
types, bit depths, alpha or value ranges. Whatever cannot be used is an `InputError`.
"""

import io
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from ctxrep_edit.errors import InputError

if TYPE_CHECKING:
    import torch

__all__ = [
    "LONGEST_ASPECT",
    "MIN_SIDE",
    "ImageLike",
    "brought_down",
    "check_aspect",
    "luma",
    "mask_picture",
    "read_image",
    "read_mask",
    "shrink_mask",
    "to_tensor",
]

ImageLike: TypeAlias = "Image.Image | str | os.PathLike[str] | bytes | npt.NDArray[Any] | torch.Tensor"

MIN_SIDE = 8
"""Pixels: the shortest side of a picture that can be edited."""

LONGEST_ASPECT = 12
"""How many times as long as wide a picture may be that is edited or assessed."""

_STRIP = 2**22  # values that are converted at once, so that a big array has no second copy in floats
_BY_WAY_OF = {"LAB": "RGB", "La": "LA", "RGBa": "RGBA"}  # modes that Pillow converts to that one only

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
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
    picture = _open(image, name)
    if min(picture.size) < MIN_SIDE:
        raise InputError(
            f"{name} is {picture.width} x {picture.height} pixels, too small to edit: "
            f"each side must have at least {MIN_SIDE}. Give a larger picture."
        )
    if picture.has_transparency_data:
        picture = _convert(picture, "RGBA", name)
        page = Image.new("RGB", picture.size, "white")
        page.paste(picture, mask=picture)
        return page
    return picture if picture.mode == "RGB" and picture is not image else _convert(picture, "RGB", name)


def check_aspect(picture: Image.Image, name: str) -> None:
    """Raises `InputError` where `picture` is more than `LONGEST_ASPECT` times as long as wide."""
    if max(picture.size) > LONGEST_ASPECT * min(picture.size):
        raise InputError(
            f"{name} is {picture.width} x {picture.height} pixels, too long and narrow: give a part of it that is at "
            f"most {LONGEST_ASPECT} times as long as wide."
        )


def read_mask(mask: ImageLike, size: tuple[int, int], *, name: str = "mask") -> npt.NDArray[np.bool_]:
    """`mask` as a boolean array (H, W), True where the edit may happen.

    Takes the same kinds as `read_image`. White means edit: a pixel counts from 50 % grey upwards. A mask with
    transparent pixels follows OpenAI's convention instead: transparent means edit, and its colours are not looked at.
    `size` is the (width, height) of the picture, which the mask must have exactly.

    Raises `InputError` for what `read_image` refuses, for another size, and for a mask that marks no pixel.
    """
    picture = _open(mask, name)
    if picture.size != tuple(size):
        raise InputError(
            f"{name} is {picture.width} x {picture.height} pixels but its picture is {size[0]} x {size[1]}. "
            f"Resize the mask to {size[0]} x {size[1]}."
        )
    if picture.has_transparency_data:
        alpha = np.asarray(_convert(picture, "RGBA", name).getchannel("A"))
        if alpha.min() < 255:
            return _not_empty(alpha < 128, f"no pixel of {name} is transparent enough (50 %)", name)
        picture = _convert(_convert(picture, "RGBA", name), "RGB", name)
    grey = np.asarray(_convert(picture, "L", name))
    return _not_empty(grey >= 128, f"the brightest pixel of {name} is {grey.max()} of 255, below the half", name)


def mask_picture(mask: ImageLike, size: tuple[int, int]) -> Image.Image:
    """`read_mask` as a picture of mode L, white where the edit may happen."""
    return Image.fromarray(read_mask(mask, size)).convert("L")


def shrink_mask(mask: Image.Image, size: tuple[int, int]) -> "torch.Tensor":
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


def luma(picture: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The brightness of (..., 3), weighted as in Rec. 601: (...)."""
    return np.asarray(picture @ _LUMA)


def brought_down(pictures: "torch.Tensor", scale: float) -> "torch.Tensor":
    """(n, c, h, w) made smaller by area, to `scale` of its sides; not touched where that is 1 or more."""
    from torch.nn.functional import interpolate

    if scale >= 1:
        return pictures
    return interpolate(pictures, [max(1, round(side * scale)) for side in pictures.shape[2:]], mode="area")


def to_tensor(image: Image.Image) -> "torch.Tensor":
    """An RGB picture as a float32 tensor (1, 3, H, W) with values in [0, 1]."""
    import torch

    pixels = torch.from_numpy(np.array(image.convert("RGB")))  # (H, W, 3)
    return pixels.permute(2, 0, 1).unsqueeze(0).contiguous().to(torch.float32) / 255  # (1, 3, H, W)


def _open(image: ImageLike, name: str) -> Image.Image:
    """Any accepted kind as an upright PIL image of at most 8 bits a channel, its mode otherwise untouched."""
    torch = sys.modules.get("torch")  # whoever hands over a tensor has imported torch
    if torch is not None and isinstance(image, torch.Tensor):
        return _from_array(_from_tensor(image, name), name)
    if isinstance(image, np.ndarray):
        return _from_array(image, name)
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
        return _from_array(np.asarray(picture), name)
    if picture.mode.startswith("I"):  # 16 bits, or 32 that hold 16; Pillow's own conversion clips at 255
        deep = np.asarray(picture)
        if deep.min() < 0 or deep.max() > 65535:
            raise InputError(
                f"{name} is an integer picture with values {deep.min()} to {deep.max()}, beyond 16 bits. "
                f"Scale it to 0 ... 65535, or to 0 ... 1 as floats."
            )
        return _from_array(deep.astype(np.uint16), name)
    return picture


def _existing(path: "str | os.PathLike[str]", name: str) -> Path:
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


def _convert(picture: Image.Image, mode: str, name: str) -> Image.Image:
    try:
        if picture.mode in _BY_WAY_OF:
            picture = picture.convert(_BY_WAY_OF[picture.mode])
        return picture.convert(mode)
    except (ValueError, OSError) as error:
        raise InputError(f"{name} has mode {picture.mode}: {error}. Convert it to RGB and give it again.") from error


def _from_tensor(tensor: "torch.Tensor", name: str) -> npt.NDArray[Any]:
    """A tensor (H, W), (C, H, W) or (1, C, H, W) as an array (H, W) or (H, W, C)."""
    import torch

    shape = tuple(tensor.shape)
    if tensor.ndim == 4 and shape[0] != 1:
        raise InputError(f"{name} is a batch of {shape[0]} pictures, shape {shape}. Give one of them: batch[i].")
    tensor = tensor[0] if tensor.ndim == 4 else tensor
    if tensor.ndim != 2 and not (tensor.ndim == 3 and tensor.shape[0] in (1, 3, 4)):
        raise InputError(
            f"{name} is a tensor of shape {shape}. Give (H, W), (C, H, W) or (1, C, H, W) with C of 1, 3 or 4; "
            f"permute(2, 0, 1) brings channels to the front."
        )
    tensor = tensor.detach().cpu()
    if tensor.dtype not in (torch.float64, torch.float32) and tensor.is_floating_point():
        tensor = tensor.half()  # NumPy has no bfloat16; values in [0, 1] lose nothing that 8 bits show
    array: npt.NDArray[Any] = tensor.numpy()
    return array if array.ndim == 2 else np.moveaxis(array, 0, -1)


def _from_array(array: npt.NDArray[Any], name: str) -> Image.Image:
    """An array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) as a picture of mode L, RGB or RGBA."""
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise InputError(
            f"{name} is an array of shape {array.shape}. Give one picture as (H, W), (H, W, 1), (H, W, 3) or (H, W, 4);"
            f" np.moveaxis(a, 0, -1) brings channels to the back."
        )
    if array.size == 0:
        raise InputError(f"{name} has no pixels: its shape is {array.shape}.")
    array = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    if array.dtype == np.bool_:
        array = array * np.uint8(255)
    elif array.dtype == np.uint16:
        array = _in_strips(array, lambda strip: (strip.astype(np.uint32) + 128) // 257)  # 65535 = 255 * 257
    elif np.issubdtype(array.dtype, np.floating):
        _check_floats(float(array.min()), float(array.max()), name)
        array = _in_strips(array, lambda strip: np.rint(strip.clip(0, 1) * 255))
    elif array.dtype != np.uint8:
        raise InputError(
            f"{name} holds {array.dtype} values, whose range is not known. "
            f"Give uint8 (0 to 255), uint16 (0 to 65535), float (0 to 1) or bool: for example array.astype(np.uint8)."
        )
    return Image.fromarray(np.ascontiguousarray(array, dtype=np.uint8))


def _in_strips(array: npt.NDArray[Any], convert: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """`convert`ed to uint8, some rows at a time."""
    out = np.empty(array.shape, np.uint8)
    rows = max(1, _STRIP * len(array) // array.size)
    for top in range(0, len(array), rows):
        out[top : top + rows] = convert(array[top : top + rows])
    return out


def _check_floats(low: float, high: float, name: str) -> None:
    """Raise unless low ... high lies in [0, 1], give or take rounding."""
    slack = 1e-3
    if not (np.isfinite(low) and np.isfinite(high)):  # min and max pass NaN on
        raise InputError(f"{name} holds NaN or infinite values. Mend what computed it, or use np.nan_to_num.")
    if low >= -slack and high <= 1 + slack:
        return
    mend = "Scale it to [0, 1]."
    if -1 - slack <= low < -slack and high <= 1 + slack:
        mend = "It looks like [-1, 1]: give (x + 1) / 2."
    elif low >= 0 and high <= 255:
        mend = "It looks like 0 ... 255: give x / 255, or uint8."
    raise InputError(f"{name} holds floats from {low:.4g} to {high:.4g}, but floats must lie in [0, 1]. {mend}")


def _not_empty(marked: npt.NDArray[np.bool_], reason: str, name: str) -> npt.NDArray[np.bool_]:
    if not marked.any():
        raise InputError(
            f"{name} marks nothing to edit: {reason}. "
            f"Paint the region to edit white (255, or 1.0, or True), or make it transparent."
        )
    return marked
