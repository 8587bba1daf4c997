"""Contact sheets: rows of labelled pictures, for eyes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from ctxrep_edit.errors import InputError
from ctxrep_edit.imaging import on_white

CELL = 192  # pixels: width of a cell
TALLEST = 2 * CELL  # pixels: height of a cell, at most
COLUMNS = 7  # cells beside one another, at most
GAP = 12
LINE = 18
HEADING = 22
HEADINGS = 3  # lines of a heading, at most
GOOD, BAD, INK, PAPER = "#1a7f37", "#b42318", "#1f2328", "#ffffff"


@dataclass(frozen=True)
class Cell:
    """A picture with one line below it; `kept` colours the line (None: neutral)."""

    image: Image.Image
    caption: str
    kept: bool | None = None


@dataclass(frozen=True)
class Row:
    """Cells under one heading."""

    heading: str
    cells: Sequence[Cell]


def contact_sheet(rows: Sequence[Row]) -> Image.Image:
    """The rows below one another, each on as many lines as it takes; small pictures enlarged without smoothing.

    A sheet is at most seven cells wide, 1440 pixels. The cells of a row are as high as the highest of its pictures is
    at their width, but no higher than twice that. Raises InputError where there is nothing to show.
    """
    if not rows or not all(row.cells for row in rows):
        raise InputError("There is nothing to show: give at least one row, and at least one cell in each.")
    columns = max(_columns(len(row.cells)) for row in rows)
    bands = [_band(row, columns) for row in rows]
    sheet = Image.new("RGB", (bands[0].width, GAP + sum(band.height for band in bands)), PAPER)
    top = GAP
    for band in bands:
        sheet.paste(band, (0, top))
        top += band.height
    return sheet


def _columns(cells: int) -> int:
    """So that the lines are about equally full."""
    return math.ceil(cells / math.ceil(cells / COLUMNS))


def _band(row: Row, columns: int) -> Image.Image:
    pictures = [on_white(_fit(cell.image)) for cell in row.cells]
    high = max(picture.height for picture in pictures)
    heading, caption = ImageFont.load_default(size=15), ImageFont.load_default(size=12)
    width = GAP + columns * (CELL + GAP)
    lines = _lines(row.heading, width - 2 * GAP, heading)
    first, line = len(lines) * HEADING, high + LINE + GAP
    band = Image.new("RGB", (width, first + math.ceil(len(pictures) / columns) * line), PAPER)
    draw = ImageDraw.Draw(band)
    for i, words in enumerate(lines):
        draw.text((GAP, i * HEADING), words, fill=INK, font=heading)
    for i, (cell, picture) in enumerate(zip(row.cells, pictures, strict=True)):
        left, top = GAP + i % columns * (CELL + GAP), first + i // columns * line
        band.paste(picture, (left + (CELL - picture.width) // 2, top + (high - picture.height) // 2))
        ink = INK if cell.kept is None else GOOD if cell.kept else BAD
        draw.text((left, top + high + 3), _cut(cell.caption, CELL, caption), fill=ink, font=caption)
    return band


def _fit(image: Image.Image) -> Image.Image:
    scale = min(CELL / image.width, TALLEST / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)


Font = ImageFont.ImageFont | ImageFont.FreeTypeFont


def _lines(text: str, width: int, font: Font) -> list[str]:
    """The words of a text, broken where a line of it is full."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) > HEADINGS:
        lines[HEADINGS - 1 :] = [" ".join(lines[HEADINGS - 1 :])]
    return [_cut(line, width, font) for line in lines]


def _cut(text: str, width: int, font: Font) -> str:
    """As much of the text as fits."""
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."
