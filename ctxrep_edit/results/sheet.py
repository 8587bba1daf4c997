"""Contact sheets: rows of labelled pictures, for eyes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from ctxrep_edit.imaging import on_white

CELL = 192  # pixels: side of the square that each picture is fitted into
GAP = 12
LINE = 18
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
    """The rows below one another, small pictures enlarged without smoothing."""
    columns = max(len(row.cells) for row in rows)
    height = 2 * LINE + CELL + 2 * GAP
    sheet = Image.new("RGB", (GAP + columns * (CELL + GAP), GAP + len(rows) * height), PAPER)
    draw = ImageDraw.Draw(sheet)
    heading, caption = ImageFont.load_default(size=15), ImageFont.load_default(size=12)
    for j, row in enumerate(rows):
        top = GAP + j * height
        draw.text((GAP, top), row.heading, fill=INK, font=heading)
        for i, cell in enumerate(row.cells):
            left = GAP + i * (CELL + GAP)
            picture = on_white(_fit(cell.image))
            place = (left + (CELL - picture.width) // 2, top + LINE + 6 + (CELL - picture.height) // 2)
            sheet.paste(picture, place)
            ink = INK if cell.kept is None else GOOD if cell.kept else BAD
            draw.text((left, top + LINE + CELL + 10), cell.caption, fill=ink, font=caption)
    return sheet


def _fit(image: Image.Image) -> Image.Image:
    scale = CELL / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)
