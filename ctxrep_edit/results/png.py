"""Pictures as PNG files that say how they were made."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

from PIL import Image, PngImagePlugin

from ctxrep_edit.imaging import exif_with

RECIPE = "ctxrep-edit"  # key of the text chunk


def encode_png(image: Image.Image, recipe: str | None = None, credits: Mapping[str, str] | None = None) -> bytes:
    """`image` as the bytes of a PNG file. Pictures of ours are in sRGB and bear no colour profile.

    recipe: what a text chunk of it is to say, such as JSON. credits: "artist" and "copyright", either or both, which
    its EXIF is to say.
    """
    chunks = PngImagePlugin.PngInfo()
    if recipe is not None:
        chunks.add_itxt(RECIPE, recipe)
    stream = io.BytesIO()
    image.save(stream, "PNG", pnginfo=chunks, exif=exif_with(credits or {}))
    return stream.getvalue()


def bears_recipe(file: Path) -> bool:
    """Whether `file` is a picture with a recipe of ours."""
    try:
        with Image.open(file) as opened:
            return RECIPE in opened.info
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # no picture, or a broken one
        return False
