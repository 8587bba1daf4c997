"""What a picture's EXIF says that matters here: which side is up, and whose it is.

EXIF that cannot be read says nothing; it never decides whether the pixels can be.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from PIL import ExifTags, Image

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_CREDITS = {"artist": ExifTags.Base.Artist, "copyright": ExifTags.Base.Copyright}


def upright(picture: Image.Image) -> Image.Image:
    """`picture` turned as its Orientation says; the very same where it says nothing."""
    orientation = _tag(picture, ExifTags.Base.Orientation)
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return picture if turn is None else picture.transpose(turn)


def credits_of(picture: Image.Image) -> dict[str, str]:
    """Who made the picture and who owns it, as its EXIF says: "artist", "copyright", or neither."""
    found = {name: _text(_tag(picture, tag)) for name, tag in _CREDITS.items()}
    return {name: text for name, text in found.items() if text}


def exif_with(credits: Mapping[str, str]) -> Image.Exif:
    """EXIF that says no more than `credits`, with the names of `credits_of`; in UTF-8, as most programs write it."""
    exif = Image.Exif()
    for name, text in credits.items():
        exif[_CREDITS[name]] = text.encode()
    return exif


def _tag(picture: Image.Image, tag: int) -> Any:
    try:
        return picture.getexif().get(tag)
    except Exception:  # damaged EXIF makes Pillow raise almost anything
        return None


def _text(value: Any) -> str:
    """A tag of EXIF's type ASCII, which Pillow reads as Latin-1 and which mostly holds UTF-8."""
    if not isinstance(value, str):
        return ""
    with contextlib.suppress(UnicodeError):  # where it is Latin-1, or was no bytes at all
        value = value.encode("latin-1").decode()
    return " ".join(value.replace("\0", " ").split())
