"""Photographs for the embedded models: crops to train on, and the held-out pictures that scikit-image bundles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ctxrep_plugins.shared import PHOTOGRAPHS
from PIL import Image

BUCKETS = ((64, 64), (56, 72), (72, 56), (48, 80), (80, 48))  # (height, width): all that the embedded models know
HELD_OUT = (  # photographs and textures in scikit-image's wheel; no model of ours was trained on them
    "astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "coins.png",
    "grass.png", "gravel.png", "motorcycle_left.png", "rocket.jpg",
)  # fmt: skip


def read_folder(folder: Path, sides: Sequence[int] = (320, 900)) -> list[np.ndarray]:
    """Every photograph below `folder`, once per short side in `sides`: uint8 arrays (height, width, 3).

    Links, and screenshots that wallpaper packages hold as previews, are passed over.
    """
    pictures = []
    found = (p for p in folder.rglob("*") if p.suffix.lower() in PHOTOGRAPHS and p.is_file() and not p.is_symlink())
    for file in sorted(p for p in found if "screenshot" not in p.name):
        with Image.open(file) as image:
            if min(image.size) < min(sides):
                continue
            rgb = image.convert("RGB")
        for side in sides:
            scale = side / min(rgb.size)
            size = (round(rgb.width * scale), round(rgb.height * scale))
            pictures.append(np.asarray(rgb.resize(size, Image.Resampling.LANCZOS)))
    return pictures


def held_out() -> list[np.ndarray]:
    """The held-out photographs: uint8 arrays (height, width, 3)."""
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    return [np.asarray(Image.open(folder / name).convert("RGB")) for name in HELD_OUT if (folder / name).exists()]


def crop(pictures: Sequence[np.ndarray], bucket: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """One random crop at a random scale, flipped half the time: float32 (height, width, 3) in [0, 1]."""
    h, w = bucket
    picture = pictures[rng.integers(len(pictures))]
    room = min(picture.shape[0] / h, picture.shape[1] / w)
    scale = min(float(rng.choice([1.0, 1.5, 2.0, 3.0, 4.0])), room)
    ch, cw = int(h * scale), int(w * scale)
    y, x = rng.integers(picture.shape[0] - ch + 1), rng.integers(picture.shape[1] - cw + 1)
    piece = Image.fromarray(picture[y : y + ch, x : x + cw])
    out = np.asarray(piece.resize((w, h), Image.Resampling.BOX), np.float32) / 255
    return out[:, ::-1].copy() if rng.random() < 0.5 else out


def busy_crop(pictures: Sequence[np.ndarray], bucket: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Of three random crops the one whose pixels differ most from those below them: wallpapers are mostly sky."""
    crops = [crop(pictures, bucket, rng) for _ in range(3)]
    return max(crops, key=lambda picture: np.square(np.diff(picture, axis=0)).mean())


def augment(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Strong colour changes: permuted channels, gains, lifts, contrast, grey. Same shape and range."""
    out = picture
    if rng.random() < 0.5:
        out = out[..., rng.permutation(3)]
    if rng.random() < 0.5:
        out = out * rng.uniform(0.6, 1.4, 3) + rng.uniform(-0.12, 0.12, 3)
    if rng.random() < 0.3:
        out = (out - out.mean()) * rng.uniform(1.0, 2.5) + rng.uniform(0.3, 0.7)
    if rng.random() < 0.15:
        out = np.repeat(out.mean(-1, keepdims=True), 3, -1)
    return np.clip(out, 0, 1).astype(np.float32)
