"""Pictures as PNG files that say how they were made."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, PngImagePlugin

RECIPE = "ctxrep-edit"  # key of the text chunk


def encode_png(image: Image.Image, recipe: str | None = None) -> bytes:
    """`image` as the bytes of a PNG file. recipe: what a text chunk of it is to say, such as JSON."""
    chunks = PngImagePlugin.PngInfo()
    if recipe is not None:
        chunks.add_itxt(RECIPE, recipe)
    stream = io.BytesIO()
    image.save(stream, "PNG", pnginfo=chunks)
    return stream.getvalue()


def bears_recipe(file: Path) -> bool:
    """Whether `file` is a picture with a recipe of ours."""
    try:
        with Image.open(file) as opened:
            return RECIPE in opened.info
    except OSError:
        return False
