"""A picture of noise, as file formats hold it, and whether another is the same."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

W, H = 12, 9
PIXELS = np.random.default_rng(0).integers(0, 256, (H, W, 3), dtype=np.uint8)


def encoded(picture: Image.Image, form: str = "PNG", **options: object) -> bytes:
    """The content of a file."""
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


def same(picture: Image.Image, pixels: np.ndarray = PIXELS) -> bool:
    return picture.mode == "RGB" and np.array_equal(np.asarray(picture), pixels)
