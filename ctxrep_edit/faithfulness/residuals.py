"""Is an edit of the whole picture one operation, done everywhere alike?

Each pixel of the edit is explained by what the source shows there and close by, through one linear combination of
features for the whole picture, found by robust regression: what little of the picture is treated otherwise does not
pull at it. What stays unexplained is noise, or an object that was moved or taken away.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ctxrep_edit.imaging import brought_down, luma

LARGEST = 256  # pixels: longer sides are brought down to it
SCALES = (0.7, 1.5)  # pixels: what blurs of these widths take away is what the source shows close by
ROUNDS = 4  # of reweighting

Array = npt.NDArray[np.float64]


def unexplained(source: Tensor, edit: Tensor) -> Tensor:
    """Root mean square over the channels of what is not explained, both (3, h, w) in [0, 1]: (h', w'), h', w' <= 256.

    It is given in contrasts of the source: an edit that halves all contrasts halves what is wrong as well.
    """
    return Explainer(source).unexplained(edit)


class Explainer:
    """What a source, (3, h, w) in [0, 1], has to explain its edits by, worked out once for all of them."""

    def __init__(self, source: Tensor) -> None:
        before = _pixels(source)
        self.source, self.features = source, _features(before)  # (h' w', features)
        self.contrast = _contrast(before.astype(np.float64))

    def unexplained(self, edit: Tensor) -> Tensor:
        """See `unexplained`."""
        after, features = _pixels(edit), self.features
        wanted = after.reshape(-1, 3).astype(np.float64)
        weights = np.ones(len(wanted))
        ridge = 1e-3 * np.eye(features.shape[1])
        for _ in range(ROUNDS):
            weighted = features * weights[:, None]
            explained = features @ np.linalg.solve(weighted.T @ features + ridge, weighted.T @ wanted)  # (h' w', 3)
            errors = np.sqrt(np.square(wanted - explained).mean(1))  # (h' w',)
            weights = 1 / (1 + np.square(errors / (2 * np.median(errors) + 2e-3)))  # of Cauchy's
        gain = (_contrast(explained.reshape(after.shape)) + 1e-3) / (self.contrast + 1e-3)
        return torch.from_numpy((errors / gain).reshape(after.shape[:2]).astype(np.float32))


def _pixels(picture: Tensor) -> npt.NDArray[np.float32]:
    """(3, h, w), brought down: (h', w', 3)."""
    small = brought_down(picture[None], LARGEST / max(picture.shape[1:]))[0]
    return np.moveaxis(small.numpy(), 0, -1)


def _features(picture: npt.NDArray[np.float32]) -> Array:
    """Of each pixel of (h, w, 3): colour, and luma and its details with their squares and sizes: (h w, 11)."""
    from scipy.ndimage import gaussian_filter

    grey = luma(picture)
    details = [grey - gaussian_filter(grey, scale) for scale in SCALES]
    found = [np.ones_like(grey), *np.moveaxis(picture, -1, 0), grey**2]
    found += [*details, *(np.square(detail) for detail in details), *(np.abs(detail) for detail in details)]
    return np.stack(found, -1).reshape(grey.size, -1).astype(np.float64)


def _contrast(picture: Array) -> float:
    """Root mean square gradient of the luma of (h, w, 3)."""
    grey = luma(picture)
    steps = [np.diff(grey, axis=axis) for axis in (0, 1) if grey.shape[axis] > 1]
    return float(np.sqrt(sum(np.square(step).mean() for step in steps))) if steps else 0.0
