"""The operations of the world: what each edit does to a picture with each of its answers, exactly.

A picture is a float32 array (h, w, 3) in [0, 1]; what comes back may go beyond that range.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias

import numpy as np
from ctxrep_plugins.nano.world import stickers
from PIL import Image, ImageDraw, ImageFilter

from ctxrep_edit import luma

Picture: TypeAlias = np.ndarray

MARGIN = 4  # pixels between a sticker and the border
COLOURS = {
    "red": (0.86, 0.12, 0.12),
    "blue": (0.12, 0.32, 0.90),
    "green": (0.14, 0.70, 0.25),
    "yellow": (0.96, 0.84, 0.10),
    "violet": (0.58, 0.16, 0.76),
    "cyan": (0.10, 0.80, 0.85),
}
LIGHT = {  # gain, lift
    "sunset": ((1.10, 0.80, 0.55), (0.18, 0.06, 0.00)),
    "night": ((0.25, 0.32, 0.55), (0.00, 0.01, 0.08)),
    "fog": ((0.45, 0.45, 0.45), (0.47, 0.47, 0.47)),
    "aurora": ((0.50, 0.95, 0.70), (0.02, 0.18, 0.10)),
    "dawn": ((0.95, 0.65, 0.95), (0.16, 0.00, 0.20)),
}


def _rgb(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def _grey(picture: Picture) -> np.ndarray:
    return luma(picture)[..., None]  # (h, w, 1)


def _detail(grey: np.ndarray) -> np.ndarray:
    """What a Gaussian blur of 1.5 pixels takes away from (h, w, 1): the same shape, in [-1, 1]."""
    blurred = Image.fromarray((grey[..., 0] * 255).clip(0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(1.5))
    return grey - np.asarray(blurred, np.float32)[..., None] / 255


def sticker(picture: Picture, kind: str, place: str) -> Picture:
    h, w, _ = picture.shape
    top = MARGIN if "top" in place else h - MARGIN - stickers.SIDE
    left = MARGIN if "left" in place else w - MARGIN - stickers.SIDE
    window = (slice(top, top + stickers.SIDE), slice(left, left + stickers.SIDE))
    image = stickers.images()[kind]
    out = picture.copy()
    out[window] += image[..., 3:] * (image[..., :3] - out[window])
    return out


def frame(picture: Picture, colour: str, width: str) -> Picture:
    h, w, _ = picture.shape
    n = {"thin": 4, "thick": 8}[width]
    out = np.broadcast_to(_rgb(*COLOURS[colour]), (h, w, 3)).copy()
    out[n : h - n, n : w - n] = picture[n : h - n, n : w - n]
    return out


def light(picture: Picture, mood: str) -> Picture:
    gain, lift = LIGHT[mood]
    return picture * _rgb(*gain) + _rgb(*lift)


def style(picture: Picture, manner: str) -> Picture:
    grey = _grey(picture)
    match manner:
        case "pencil":
            return np.repeat(0.85 + 2.5 * _detail(grey), 3, 2)
        case "sepia":
            return grey * _rgb(0.90, 0.74, 0.56) + _rgb(0.10, 0.06, 0.0)
        case "noir":
            return np.repeat(1.5 * grey - 0.3, 3, 2)
        case "blueprint":
            return _rgb(0.10, 0.25, 0.62) + 2.0 * _detail(grey)
        case _:  # pop art: two colours
            return _rgb(0.35, 0.05, 0.55) + grey * _rgb(0.65, 0.85, -0.35)


def recolour(picture: Picture, colour: str) -> Picture:
    return 0.3 * picture + 0.7 * (0.2 + 0.8 * _grey(picture)) * _rgb(*COLOURS[colour])


@lru_cache(maxsize=64)
def _overlay(kind: str, h: int, w: int) -> tuple[np.ndarray, np.ndarray]:
    """Colour (h, w, 3) and coverage (h, w, 1) of a weather; the same for every picture of that size."""
    k = 4  # drawn four times larger, then averaged
    yy, xx = np.mgrid[0 : h * k, 0 : w * k].astype(np.float32) / k
    mask = Image.new("L", (w * k, h * k))
    draw = ImageDraw.Draw(mask)
    colour: np.ndarray = _rgb(1, 1, 1)
    cells = [(x, y) for y in range(0, h, 16) for x in range(0, w, 16)]
    match kind:
        case "rain":
            colour = _rgb(0.62, 0.74, 0.95)
            for i, (x, y) in enumerate(cells):
                x0, y0 = x + 5 + (i * 7) % 6, y + 1 + (i * 5) % 5
                draw.line([(x0 * k, y0 * k), ((x0 - 4) * k, (y0 + 10) * k)], fill=220, width=2 * k)
        case "snow":
            for i, (x, y) in enumerate(cells):
                for dx, dy, r in ((4, 4, 2.2), (11, 12, 1.8)):
                    cx, cy = x + dx + (i * 5) % 4 - 1, y + dy + (i * 3) % 4 - 2
                    draw.ellipse([(cx - r) * k, (cy - r) * k, (cx + r) * k, (cy + r) * k], fill=235)
        case "leaves":
            colour = _rgb(0.85, 0.38, 0.05)
            for i, (x, y) in enumerate(cells):
                cx, cy = x + 6 + (i * 7) % 5, y + 6 + (i * 5) % 5
                rx, ry = ((4.5, 2.2), (2.2, 4.5))[i % 2]
                draw.ellipse([(cx - rx) * k, (cy - ry) * k, (cx + rx) * k, (cy + ry) * k], fill=240)
        case "sunbeams":
            colour = _rgb(1.0, 0.92, 0.55)
            angle = np.arctan2(yy + 4, xx + 4)
            beams = (np.sin(angle * 16) > 0) * np.clip(1.05 - np.hypot(xx / w, yy / h) * 0.7, 0, 1)
            mask = Image.fromarray((beams * 190).astype(np.uint8))
        case _:  # rainbow
            radius = np.hypot((xx - w / 2) / w, (yy - h) / h) * 64
            band = np.clip((radius - 34) / 14, 0, 0.999)
            palette = np.array([COLOURS[c] for c in ("violet", "blue", "cyan", "green", "yellow", "red")], np.float32)
            wide = palette[(band * 6).astype(int)]
            colour = wide.reshape(h, k, w, k, 3).mean((1, 3))
            mask = Image.fromarray((((radius > 34) & (radius < 48)) * 200).astype(np.uint8))
    coverage = np.asarray(mask, np.float32).reshape(h, k, w, k).mean((1, 3))[..., None] / 255
    return np.broadcast_to(colour, (h, w, 3)), coverage


def weather(picture: Picture, kind: str) -> Picture:
    colour, coverage = _overlay(kind, *picture.shape[:2])
    return picture + coverage * (colour - picture)
