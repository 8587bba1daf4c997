"""Arrays and tensors as pictures, and pictures as tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ctxrep_edit.errors import InputError

if TYPE_CHECKING:
    import torch

_STRIP = 2**22  # values that are converted at once, so that a big array has no second copy in floats
_BY_WAY_OF = {"LAB": "RGB", "La": "LA", "RGBa": "RGBA"}  # modes that Pillow converts to that one only
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def luma(picture: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The brightness of (..., 3), weighted as in Rec. 601: (...)."""
    return np.asarray(picture @ _LUMA)


def brought_down(pictures: torch.Tensor, scale: float) -> torch.Tensor:
    """(n, c, h, w) made smaller by area, to `scale` of its sides; not touched where that is 1 or more."""
    from torch.nn.functional import interpolate

    if scale >= 1:
        return pictures
    return interpolate(pictures, [max(1, round(side * scale)) for side in pictures.shape[2:]], mode="area")


def to_picture(image: torch.Tensor, shape: tuple[int, int]) -> Image.Image:
    """(3, h, w) in [0, 1] as an RGB picture of (width, height) `shape`."""
    import torch

    pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()  # (h, w, 3)
    picture = Image.fromarray(pixels)
    return picture if picture.size == shape else picture.resize(shape, Image.Resampling.LANCZOS)


def to_tensor(image: Image.Image) -> torch.Tensor:
    """A picture as a float32 tensor (1, 3, H, W) with values in [0, 1], any transparency laid on white."""
    import torch

    pixels = torch.from_numpy(np.array(on_white(image)))  # (H, W, 3)
    return pixels.permute(2, 0, 1).unsqueeze(0).contiguous().to(torch.float32) / 255  # (1, 3, H, W)


def to_tensors(images: Iterable[Image.Image], size: tuple[int, int]) -> torch.Tensor:
    """The same of one picture or more, each brought to (width, height) `size`: (n, 3, height, width)."""
    import torch

    return torch.cat([to_tensor(image.resize(size)) for image in images])


def convert(picture: Image.Image, mode: str, name: str) -> Image.Image:
    """`picture` in another mode, also where Pillow has no direct way. Raises `InputError` where it has none at all."""
    try:
        if picture.mode in _BY_WAY_OF:
            picture = picture.convert(_BY_WAY_OF[picture.mode])
        return picture.convert(mode)
    except (ValueError, OSError) as error:
        raise InputError(f"{name} has mode {picture.mode}: {error}. Convert it to RGB and give it again.") from error


def is_clear(layer: Image.Image) -> bool:
    """Whether any pixel of an RGBA picture is not wholly opaque."""
    return layer.getchannel("A").getextrema() != (255, 255)


def on_white(picture: Image.Image, name: str = "the picture") -> Image.Image:
    """A new RGB picture, any transparency laid on white."""
    if not picture.has_transparency_data:
        return convert(picture, "RGB", name)
    layer = picture if picture.mode == "RGBA" else convert(picture, "RGBA", name)
    page = Image.new("RGB", layer.size, "white")
    page.paste(layer, mask=layer)
    return page


def from_tensor(tensor: torch.Tensor, name: str) -> npt.NDArray[Any]:
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


def from_array(array: npt.NDArray[Any], name: str) -> Image.Image:
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


def aspect(size: tuple[int, int], source: tuple[int, int]) -> tuple[int, int]:
    """The size in the source's aspect with about the same area; `size` itself where they agree to the pixel."""
    ratio = source[0] / source[1]
    height = (size[0] * size[1] / ratio) ** 0.5
    shape = (max(1, round(height * ratio)), max(1, round(height)))
    return size if abs(shape[0] - size[0]) <= 1 and abs(shape[1] - size[1]) <= 1 else shape
