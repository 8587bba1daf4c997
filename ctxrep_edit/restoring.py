"""Puts the source's own pixels back outside the edited region."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

if TYPE_CHECKING:
    import torch

FEATHER = 0.02  # of the short side: how wide the passage from source to edit is; it lies within the region


def opacity(region: torch.Tensor) -> torch.Tensor:
    """How much of the edit is shown: float (h, w), 0 outside region, bool (h, w), rising to 1 within it.

    The picture's border is no border of the region.
    """
    import torch
    from scipy.ndimage import distance_transform_edt

    width = max(2, round(FEATHER * min(region.shape)))
    padded = np.pad(region.numpy(), width, mode="edge")
    depth: npt.NDArray[np.float64] = distance_transform_edt(padded)[width:-width, width:-width]
    return torch.from_numpy((depth / width).clip(0, 1).astype(np.float32))


def restore(source: Image.Image, edit: Image.Image, shown: torch.Tensor) -> Image.Image:
    """`edit` enlarged to the size of `source`, and shown on it as much as `shown`, float (h, w) in [0, 1], says.

    Where that is 0, the result has the very pixels of `source`.
    """
    mask = Image.fromarray((shown.numpy() * 255).round().astype(np.uint8))
    # bilinear: an overshooting filter would show the edit outside the region
    mask = mask.resize(source.size, Image.Resampling.BILINEAR)
    return Image.composite(edit.resize(source.size, Image.Resampling.LANCZOS), source, mask)
