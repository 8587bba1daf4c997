"""The stickers that the edit of that name adds."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

KINDS = ("cat", "frog", "whale", "football")
SIDE = 20  # pixels
FILE = Path(__file__).with_name("stickers.png")


@lru_cache
def images() -> dict[str, np.ndarray]:
    """By kind: float32 (SIDE, SIDE, 4) in [0, 1], the last channel the coverage."""
    with Image.open(FILE) as image:
        sheet = np.asarray(image.convert("RGBA"), np.float32) / 255  # (SIDE, 4 * SIDE, 4)
    return {kind: sheet[:, i * SIDE : (i + 1) * SIDE] for i, kind in enumerate(KINDS)}
