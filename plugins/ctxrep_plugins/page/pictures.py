"""Pictures as the page shows them, and the mask as it was painted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from ctxrep_edit import InputError, encode_png, read_image

LARGEST = 1600
"""Pixels: longer sides are brought down to it for the screen."""
HOT = (232, 62, 40)
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


def changed(source: Path, edit: Path) -> Image.Image:
    """The edit in grey, and over it in red where, and how much, it differs from its source."""
    with Image.open(edit) as opened:
        after = opened.convert("RGB")
    with Image.open(source) as opened:
        before = opened.convert("RGB").resize(after.size, Image.Resampling.LANCZOS)
    soft = ImageFilter.GaussianBlur(max(after.size) / 200)
    apart = [np.asarray(one.filter(soft), np.float32) / 255 for one in (before, after)]
    heat = ((np.abs(apart[0] - apart[1]).max(-1) - LEAST) / (MOST - LEAST)).clip(0, 1)  # (h, w)
    grey = np.asarray(after.convert("L"), np.float32)[..., None] * 0.75 + 32
    mixed = grey + heat[..., None] * 0.9 * (np.array(HOT, np.float32) - grey)  # (h, w, 3)
    return Image.fromarray(mixed.round().clip(0, 255).astype(np.uint8))
