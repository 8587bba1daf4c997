"""Pictures as the page shows them, and the mask as it was painted."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from ctxrep_edit import InputError, encode_png, read_image

LARGEST = 1600
"""Pixels: longer sides are brought down to it for the screen."""
HOT, BORDER = (232, 62, 40), (255, 255, 255)
LEAST, MOST = 0.04, 0.3
"""Differences, of the range: what is not painted, and what is painted in full."""


def shown(picture: bytes, side: int = LARGEST) -> Image.Image:
    """A picture of a client, upright and in sRGB, at most `side` pixels a side. Raises InputError."""
    made = read_image(picture)
    made.thumbnail((side, side))
    return made


def mask(layers: Sequence[Image.Image], picture: bytes) -> bytes:
    """What was painted, as a PNG file of the picture's size: white where it may change. Raises InputError."""
    size = read_image(picture).size
    painted = Image.new("L", size, 0)
    for layer in layers:
        alpha = layer.convert("RGBA").getchannel("A").resize(size, Image.Resampling.NEAREST)
        painted.paste(255, mask=alpha.point(lambda value: 255 if value else 0))
    if painted.getbbox() is None:
        raise InputError("Nothing is painted yet: paint where it may change, or leave painting out.")
    return encode_png(painted)


def changed(source: Path, edit: Path, heat: bytes | None, region: bytes | None) -> Image.Image:
    """The edit in grey, and over it in red where, and how much, it differs from its source.

    heat: that as the server measured it, in grey; None: the difference of the pixels. region: white where the edit was
    allowed or found, whose border is drawn; None: none is known.
    """
    with Image.open(edit) as opened:
        after = opened.convert("RGB")
    apart = _differences(source, after) if heat is None else _grey(heat, after.size)  # (h, w), 0 to 1
    grey = np.asarray(after.convert("L"), np.float32)[..., None] * 0.75 + 32
    mixed = grey + apart[..., None] * 0.9 * (np.array(HOT, np.float32) - grey)  # (h, w, 3)
    made = Image.fromarray(mixed.round().clip(0, 255).astype(np.uint8))
    if region is not None:
        inside = Image.fromarray(((_grey(region, after.size) > 0.5) * 255).astype(np.uint8))
        width = 2 * max(1, max(after.size) // 400) + 1
        made.paste(BORDER, mask=ImageChops.subtract(inside, inside.filter(ImageFilter.MinFilter(width))))
    return made


def _grey(file: bytes, size: tuple[int, int]) -> np.ndarray:
    with Image.open(io.BytesIO(file)) as opened:
        return np.asarray(opened.convert("L").resize(size, Image.Resampling.BILINEAR), np.float32) / 255


def _differences(source: Path, after: Image.Image) -> np.ndarray:
    """Of the channel that differs most, a little softened."""
    with Image.open(source) as opened:
        before = opened.convert("RGB").resize(after.size, Image.Resampling.LANCZOS)
    soft = ImageFilter.GaussianBlur(max(after.size) / 200)
    both = [np.asarray(one.filter(soft), np.float32) / 255 for one in (before, after)]
    return np.asarray((np.abs(both[0] - both[1]).max(-1) - LEAST) / (MOST - LEAST)).clip(0, 1)
