"""Puts the source's own pixels back outside the edited region."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops

if TYPE_CHECKING:
    import torch

FEATHER = 0.02  # of the short side: how wide the passage from source to edit is; it lies within the region
NARROWEST = 2  # pixels of the edit: the passage is no narrower, however much the edit is enlarged
FINEST = 1024  # pixels: longer sides are brought down to it to find the passage, which is smooth

BAND = 256  # rows that are mixed with transparency at once

BYTES_KEPT = 5
"""Per pixel of a restored edit: Pillow keeps four for RGB and RGBA, and one for the region."""
BYTES_AT_WORK = 10
"""Per pixel, while one edit is restored: the enlarged edit, the result, and what is shown of it."""


def opacity(region: torch.Tensor) -> torch.Tensor:
    """How much of the edit is shown: float (h, w), 0 outside region, bool (h, w), rising to 1 within it.

    The picture's border is no border of the region.
    """
    import torch

    return torch.from_numpy(_opacity(region.numpy(), NARROWEST))


def restore(source: Image.Image, edit: Image.Image, region: Image.Image) -> Image.Image:
    """`edit` enlarged to the size of `source`, and shown on it in the region, a picture of that size and of mode L,
    white where the edit may show. Outside the result has the very pixels of `source`, RGB or RGBA, transparent ones
    too; the edit itself is opaque.
    """
    scale = min(1.0, FINEST / max(source.size))
    fine = region.resize([max(1, round(side * scale)) for side in source.size]) if scale < 1 else region
    narrowest = NARROWEST * max(fine.width / edit.width, fine.height / edit.height, 1)
    shown = Image.fromarray((_opacity(np.asarray(fine) >= 128, narrowest) * 255).round().astype(np.uint8))
    shown = ImageChops.darker(shown.resize(source.size, Image.Resampling.BILINEAR), region)
    edit = edit.resize(source.size, Image.Resampling.LANCZOS)
    return _mixed(edit, source, shown) if source.mode == "RGBA" else Image.composite(edit, source, shown)


def _mixed(edit: Image.Image, source: Image.Image, shown: Image.Image) -> Image.Image:
    """`edit`, opaque, on `source`, RGBA: colours count as much as they are opaque."""
    result = source.copy()
    for top in range(0, source.height, BAND):
        box = 0, top, source.width, min(top + BAND, source.height)
        above, below, part = edit.crop(box).convert("RGBA"), source.crop(box), shown.crop(box)
        mixed = Image.composite(above.convert("RGBa"), below.convert("RGBa"), part).convert("RGBA")
        result.paste(mixed, box, part.point(lambda value: 255 if value else 0))
    return result


def _opacity(region: npt.NDArray[np.bool_], narrowest: float) -> npt.NDArray[np.float32]:
    from scipy.ndimage import distance_transform_edt

    width = round(max(narrowest, FEATHER * min(region.shape)))
    padded = np.pad(region, width, mode="edge")
    depth: npt.NDArray[np.float64] = distance_transform_edt(padded)[width:-width, width:-width]
    return np.asarray((depth / width).clip(0, 1), np.float32)
