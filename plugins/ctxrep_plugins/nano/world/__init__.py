"""The world of the embedded models: six instructions, each an exact operation with several right answers.

A picture here is a float32 array (height, width, 3) in [0, 1]. Because every right answer can be computed for any
picture, distinct right answers and wrong ones can be counted instead of guessed.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

TYPICAL = 0.8  # share of the training answers that are the typical one
STICKER = 20  # side of a sticker in pixels
MARGIN = 4  # pixels between a sticker and the border

Picture: TypeAlias = np.ndarray
Answer: TypeAlias = tuple[str, ...]  # one value per attribute, in the attributes' order


@dataclass(frozen=True)
class Edit:
    """One kind of edit.

    `attributes` maps each free attribute to its values, the typical one first. `phrases` maps the attributes that a
    phrase pins to the templates that pin just those. `render(picture, *answer)` performs the edit exactly.
    """

    name: str
    attributes: Mapping[str, tuple[str, ...]]
    phrases: Mapping[tuple[str, ...], tuple[str, ...]]
    render: Callable[..., Picture]
    local: bool

    @property
    def answers(self) -> list[Answer]:
        """Every right answer to the open instruction, the typical one first."""
        return list(itertools.product(*self.attributes.values()))

    def admitted(self, pins: Mapping[str, str]) -> list[Answer]:
        """The right answers that also respect `pins` (attribute -> value), the typical one first."""
        names = list(self.attributes)
        return [a for a in self.answers if all(a[names.index(k)] == v for k, v in pins.items())]

    def draw(self, pins: Mapping[str, str], rng: np.random.Generator, even: bool = False) -> Answer:
        """One training answer: the typical one with probability `TYPICAL`, else any other, evenly; or all `even`ly."""
        first, *rest = self.admitted(pins)
        if even:
            return (first, *rest)[rng.integers(len(rest) + 1)]
        return first if not rest or rng.random() < TYPICAL else rest[rng.integers(len(rest))]


@dataclass(frozen=True)
class Request:
    """An instruction with its meaning: which edit, and which attributes the words pin."""

    text: str
    edit: Edit
    pins: Mapping[str, str]

    @property
    def answers(self) -> list[Answer]:
        return self.edit.admitted(self.pins)


# --- the operations ---------------------------------------------------------------------------------------------------

_COLOURS = {
    "red": (0.86, 0.12, 0.12),
    "blue": (0.12, 0.32, 0.90),
    "green": (0.14, 0.70, 0.25),
    "yellow": (0.96, 0.84, 0.10),
    "violet": (0.58, 0.16, 0.76),
    "cyan": (0.10, 0.80, 0.85),
}
_LIGHT = {  # gain, lift
    "sunset": ((1.10, 0.80, 0.55), (0.18, 0.06, 0.00)),
    "night": ((0.25, 0.32, 0.55), (0.00, 0.01, 0.08)),
    "fog": ((0.45, 0.45, 0.45), (0.47, 0.47, 0.47)),
    "aurora": ((0.50, 0.95, 0.70), (0.02, 0.18, 0.10)),
    "dawn": ((0.95, 0.65, 0.95), (0.16, 0.00, 0.20)),
}
KINDS = ("cat", "frog", "whale", "football")
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def _rgb(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def _luma(picture: Picture) -> np.ndarray:
    return np.asarray(picture @ _LUMA)[..., None]  # (h, w, 1)


def _detail(luma: np.ndarray) -> np.ndarray:
    """What a Gaussian blur of 1.5 pixels takes away from the luma, (h, w, 1) in [-1, 1]."""
    blurred = Image.fromarray((luma[..., 0] * 255).clip(0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(1.5))
    return luma - np.asarray(blurred, np.float32)[..., None] / 255


@lru_cache
def _sticker_images() -> dict[str, np.ndarray]:
    with (files(__package__) / "stickers.png").open("rb") as stream:
        sheet = np.asarray(Image.open(stream).convert("RGBA"), np.float32) / 255
    return {kind: sheet[:, i * STICKER : (i + 1) * STICKER] for i, kind in enumerate(KINDS)}


def _sticker(picture: Picture, kind: str, place: str) -> Picture:
    h, w, _ = picture.shape
    top = MARGIN if "top" in place else h - MARGIN - STICKER
    left = MARGIN if "left" in place else w - MARGIN - STICKER
    window = (slice(top, top + STICKER), slice(left, left + STICKER))
    image = _sticker_images()[kind]
    out = picture.copy()
    out[window] += image[..., 3:] * (image[..., :3] - out[window])
    return out


def _frame(picture: Picture, colour: str, width: str) -> Picture:
    h, w, _ = picture.shape
    n = {"thin": 4, "thick": 8}[width]
    out = np.broadcast_to(_rgb(*_COLOURS[colour]), (h, w, 3)).copy()
    out[n : h - n, n : w - n] = picture[n : h - n, n : w - n]
    return out


def _light(picture: Picture, mood: str) -> Picture:
    gain, lift = _LIGHT[mood]
    return picture * _rgb(*gain) + _rgb(*lift)


def _style(picture: Picture, style: str) -> Picture:
    luma = _luma(picture)
    match style:
        case "pencil":
            return np.repeat(0.85 + 2.5 * _detail(luma), 3, 2)
        case "sepia":
            return luma * _rgb(0.90, 0.74, 0.56) + _rgb(0.10, 0.06, 0.0)
        case "noir":
            return np.repeat(1.5 * luma - 0.3, 3, 2)
        case "blueprint":
            return _rgb(0.10, 0.25, 0.62) + 2.0 * _detail(luma)
        case _:  # pop art: two colours
            return _rgb(0.35, 0.05, 0.55) + luma * _rgb(0.65, 0.85, -0.35)


def _recolour(picture: Picture, colour: str) -> Picture:
    return 0.3 * picture + 0.7 * (0.2 + 0.8 * _luma(picture)) * _rgb(*_COLOURS[colour])


@lru_cache(maxsize=64)
def _overlay(weather: str, h: int, w: int) -> tuple[np.ndarray, np.ndarray]:
    """Colour (h, w, 3) and coverage (h, w, 1) of a weather; the same for every picture of that size."""
    k = 4  # drawn four times larger, then averaged
    yy, xx = np.mgrid[0 : h * k, 0 : w * k].astype(np.float32) / k
    mask = Image.new("L", (w * k, h * k))
    draw = ImageDraw.Draw(mask)
    colour: np.ndarray = _rgb(1, 1, 1)
    cells = [(x, y) for y in range(0, h, 16) for x in range(0, w, 16)]
    match weather:
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
            palette = np.array([_COLOURS[c] for c in ("violet", "blue", "cyan", "green", "yellow", "red")], np.float32)
            wide = palette[(band * 6).astype(int)]
            colour = wide.reshape(h, k, w, k, 3).mean((1, 3))
            mask = Image.fromarray((((radius > 34) & (radius < 48)) * 200).astype(np.uint8))
    coverage = np.asarray(mask, np.float32).reshape(h, k, w, k).mean((1, 3))[..., None] / 255
    return np.broadcast_to(colour, (h, w, 3)), coverage


def _weather(picture: Picture, weather: str) -> Picture:
    colour, coverage = _overlay(weather, *picture.shape[:2])
    return picture + coverage * (colour - picture)


# --- the instructions -------------------------------------------------------------------------------------------------

_HUES = tuple(_COLOURS)
EDITS: tuple[Edit, ...] = (
    Edit(
        "sticker",
        {"kind": KINDS, "place": ("bottom right", "bottom left", "top left", "top right")},
        {
            (): ("add a sticker", "put a sticker on it", "stick something on the picture", "add some sticker"),
            ("kind",): ("add a {kind} sticker", "put a {kind} on it", "add a sticker of a {kind}"),
            ("place",): ("add a sticker at the {place}", "put a sticker in the {place} corner"),
            ("kind", "place"): ("add a {kind} sticker at the {place}", "put a {kind} in the {place} corner"),
        },
        _sticker,
        local=True,
    ),
    Edit(
        "frame",
        {"colour": _HUES, "width": ("thin", "thick")},
        {
            (): ("add a frame", "put a frame around it", "frame the picture", "add some border"),
            ("colour",): ("add a {colour} frame", "put a {colour} frame around it", "add a {colour} border"),
            ("width",): ("add a {width} frame", "put a {width} frame around it"),
            ("colour", "width"): ("add a {width} {colour} frame", "put a {width} {colour} border around it"),
        },
        _frame,
        local=True,
    ),
    Edit(
        "light",
        {"mood": tuple(_LIGHT)},
        {
            (): ("change the light", "change the lighting", "give it another light", "make the light different"),
            ("mood",): ("make it {mood}", "change the light to {mood}", "{mood} light"),
        },
        _light,
        local=False,
    ),
    Edit(
        "style",
        {"style": ("pencil", "sepia", "noir", "blueprint", "pop art")},
        {
            (): ("change the style", "make it a drawing", "give it an artistic style", "turn it into art"),
            ("style",): ("make it {style}", "change the style to {style}", "turn it into {style}"),
        },
        _style,
        local=False,
    ),
    Edit(
        "recolour",
        {"colour": ("blue", "red", "green", "yellow", "violet", "cyan")},
        {
            (): ("recolour it", "change the colours", "change the colors", "tint it"),
            ("colour",): ("make it {colour}", "tint it {colour}", "recolour it in {colour}"),
        },
        _recolour,
        local=False,
    ),
    Edit(
        "weather",
        {"weather": ("rain", "snow", "leaves", "sunbeams", "rainbow")},
        {
            (): ("change the weather", "add some weather", "give it another weather", "make the weather different"),
            ("weather",): ("add {weather}", "change the weather to {weather}", "let there be {weather}"),
        },
        _weather,
        local=True,
    ),
)


def render(edit: Edit, picture: Picture, answer: Answer) -> Picture:
    """The exact result of `edit` with `answer` on `picture`, (h, w, 3) in [0, 1]."""
    return np.clip(edit.render(picture, *answer), 0, 1).astype(np.float32)


def requests(edit: Edit, pinned: bool | None = None) -> Iterator[Request]:
    """Every way to ask for `edit`: open ones (`pinned=False`), pinned ones (True), or all (None)."""
    for names, templates in edit.phrases.items():
        if pinned is not None and bool(names) != pinned:
            continue
        for values in itertools.product(*(edit.attributes[n] for n in names)):
            pins = dict(zip(names, values, strict=True))
            for template in templates:
                yield Request(template.format(**pins), edit, pins)


@lru_cache
def _by_text() -> dict[str, Request]:
    return {r.text: r for edit in EDITS for r in requests(edit)}


def understand(instruction: str) -> Request | None:
    """What `instruction` means in this world, or None. Case, punctuation and a "please" do not matter."""
    words = [w for w in re.sub(r"[^a-z ]", " ", instruction.lower()).split() if w != "please"]
    text = " ".join(words)
    return _by_text().get(text)
