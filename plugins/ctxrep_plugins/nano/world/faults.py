"""Plants what can go wrong outside an edit: shifts, zooms, colour casts, noise, objects moved or missing."""

from __future__ import annotations

import numpy as np
from ctxrep_plugins.nano.world import Picture
from scipy import ndimage

FAULTS = ("shift", "zoom", "cast", "noise", "moved", "missing")
VISIBLE = 0.12  # root mean square difference that an object's move or absence must make over its square


def plant(fault: str, picture: Picture, region: np.ndarray, rng: np.random.Generator) -> Picture | None:
    """`picture`, (h, w, 3) in [0, 1], with one of `FAULTS`; None where no object fits outside region, bool (h, w).

    shift: by 1 to 8 pixels; zoom: by 3 to 12 %, either way; cast: up to 0.06 to 0.2 on a channel; noise: Gaussian,
    sigma 0.05 to 0.15; moved, missing: a square of 12 to 20 pixels, at most three tenths of it in the region, shows
    another part of the picture, or the mean colour around it.
    """
    match fault:
        case "shift":
            far, angle = rng.uniform(1, 8), rng.uniform(0, 2 * np.pi)
            return _warp(picture, far * np.sin(angle), far * np.cos(angle), 1.0)
        case "zoom":
            return _warp(picture, 0, 0, 1 + rng.choice([-1, 1]) * rng.uniform(0.03, 0.12))
        case "cast":
            tint = rng.normal(size=3)
            tint -= tint.mean() * rng.uniform()
            return _clip(picture + rng.uniform(0.06, 0.2) * tint / np.abs(tint).max())
        case "noise":
            return _clip(picture + rng.normal(0, rng.uniform(0.05, 0.15), picture.shape))
        case _:
            return _object(fault, picture, region, rng)


def _object(fault: str, picture: Picture, region: np.ndarray, rng: np.random.Generator) -> Picture | None:
    h, w = region.shape
    for _ in range(300):
        side = int(rng.integers(12, 21))
        y, x, there, across = (int(rng.integers(size - side + 1)) for size in (h, w, h, w))
        window = slice(y, y + side), slice(x, x + side)
        if region[window].mean() > 0.3:
            continue
        out = picture.copy()
        if fault == "moved":
            out[window] = picture[there : there + side, across : across + side]
        else:
            ring = np.zeros((h, w), bool)
            ring[max(0, y - 2) : y + side + 2, max(0, x - 2) : x + side + 2] = True
            ring[window] = False
            out[window] = picture[ring].mean(0)
        if np.sqrt(np.square(out - picture)[~region].sum() / (3 * side**2)) > VISIBLE:
            return out
    return None


def _clip(picture: np.ndarray) -> Picture:
    return picture.clip(0, 1).astype(np.float32)


def _warp(picture: Picture, dy: float, dx: float, zoom: float) -> Picture:
    centre = (np.array(picture.shape[:2]) - 1) / 2
    offset = centre * (1 - 1 / zoom) - np.array([dy, dx]) / zoom
    channels = [
        ndimage.affine_transform(channel, [1 / zoom] * 2, offset, order=1, mode="nearest")
        for channel in np.moveaxis(picture, -1, 0)
    ]
    return np.stack(channels, -1).astype(np.float32)
