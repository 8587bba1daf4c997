"""Is an edit of the whole picture one operation, done everywhere alike?

Each pixel of the edit is explained by what the source shows there and close by, through one linear combination of
features for the whole picture, found by robust regression: what little of the picture is treated otherwise does not
pull at it. What stays unexplained is noise, or an object that was moved or taken away.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

LARGEST = 256  # pixels: longer sides are brought down to it
SCALES = (0.7, 1.5)  # pixels: what blurs of these widths take away is what the source shows close by
ROUNDS = 4  # of reweighting
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)

Array = npt.NDArray[np.float64]


def unexplained(source: Tensor, edit: Tensor) -> Tensor:
    """Root mean square over the channels of what is not explained, both (3, h, w) in [0, 1]: (h', w'), h', w' <= 256.

    It is given in contrasts of the source: an edit that halves all contrasts halves what is wrong as well.
    """
    scale = LARGEST / max(source.shape[1:])
    if scale < 1:
        size = [max(1, round(side * scale)) for side in source.shape[1:]]
        source, edit = (F.interpolate(x[None], size, mode="area")[0] for x in (source, edit))
    before, after = (np.moveaxis(x.numpy(), 0, -1) for x in (source, edit))  # (h, w, 3)
    features = _features(before)  # (h w, features)
    wanted = after.reshape(-1, 3).astype(np.float64)
    weights = np.ones(len(wanted))
    ridge = 1e-3 * np.eye(features.shape[1])
    for _ in range(ROUNDS):
        weighted = features * weights[:, None]
        explained = features @ np.linalg.solve(weighted.T @ features + ridge, weighted.T @ wanted)  # (h w, 3)
        errors = np.sqrt(np.square(wanted - explained).mean(1))  # (h w,)
        weights = 1 / (1 + np.square(errors / (2 * np.median(errors) + 2e-3)))  # of Cauchy's
    gain = (_contrast(explained.reshape(after.shape)) + 1e-3) / (_contrast(before.astype(np.float64)) + 1e-3)
    return torch.from_numpy((errors / gain).reshape(after.shape[:2]).astype(np.float32))


def _features(picture: npt.NDArray[np.float32]) -> Array:
    """Of each pixel of (h, w, 3): colour, and luma and its details with their squares and sizes: (h w, 11)."""
    from scipy.ndimage import gaussian_filter

    luma = picture @ _LUMA
    details = [luma - gaussian_filter(luma, scale) for scale in SCALES]
    found = [np.ones_like(luma), *np.moveaxis(picture, -1, 0), luma**2]
    found += [*details, *(np.square(detail) for detail in details), *(np.abs(detail) for detail in details)]
    return np.stack(found, -1).reshape(luma.size, -1).astype(np.float64)


def _contrast(picture: Array) -> float:
    """Root mean square gradient of the luma of (h, w, 3)."""
    luma = picture @ _LUMA
    steps = [np.diff(luma, axis=axis) for axis in (0, 1) if luma.shape[axis] > 1]
    return float(np.sqrt(sum(np.square(step).mean() for step in steps))) if steps else 0.0
