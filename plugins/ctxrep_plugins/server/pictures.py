"""Pictures from clients, looked at before they are let in; and pictures as they are sent."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ctxrep_plugins.server.parameters import Form, Limits
from ctxrep_plugins.server.refusals import Refused

if TYPE_CHECKING:
    from PIL import Image

KINDS = ("PNG", "JPEG", "WEBP")
WEBP = 16383
"""Pixels of a side that the format has room for."""


def check_picture(data: bytes, name: str, limits: Limits) -> tuple[int, int]:
    """The upright (width, height) of a picture, which is decoded once its size is known to be within the limits.

    Raises `Refused` for anything but a whole PNG, JPEG or WebP of that size.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=KINDS) as picture:
            width, height = picture.size
            if max(width, height) > limits.side or width * height > limits.pixels:
                raise Refused(
                    f"{name} is {width} x {height} pixels, but may have {limits.pixels / 10**6:g} million, and "
                    f"{limits.side} a side: make it smaller.", name, code="image_too_large",
                )  # fmt: skip
            picture.load()
            turned = picture.getexif().get(0x0112) in (5, 6, 7, 8)
    except Refused:
        raise
    except UnidentifiedImageError:
        message = f"{name} is no picture that is read here: send a PNG, JPEG or WebP file."
        raise Refused(message, name, code="invalid_image") from None
    except Image.DecompressionBombError:
        message = f"{name} has more pixels than are ever read: make it smaller."
        raise Refused(message, name, code="image_too_large") from None
    except Exception:  # a damaged file makes Pillow raise almost anything
        raise Refused(f"{name} is truncated or broken: export it again.", name, code="invalid_image") from None
    return (height, width) if turned else (width, height)


def check_further(pictures: Sequence[bytes], limits: Limits) -> None:
    """Further pictures, which together may have as many pixels as one. Raises `Refused`."""
    sizes = [check_picture(picture, "image", limits) for picture in pictures]
    if sum(width * height for width, height in sizes) > limits.pixels:
        raise Refused(
            f"The pictures after the first have more than {limits.pixels / 10**6:g} million pixels together: make them "
            "smaller.", "image", code="image_too_large",
        )  # fmt: skip


def check_form(form: Form, source: tuple[int, int], limits: Limits) -> None:
    """Raises `Refused` where pictures of `form` would be stretched, or too large, also in the size of their source."""
    if form.format == "webp" and max(form.size or source) > WEBP:
        message = f"A webp has at most {WEBP} pixels a side: take another output_format, or a smaller size."
        raise Refused(message, "output_format")
    if form.size is None:
        return
    size = form.size
    (width, height), (w, h) = size, source
    if min(abs(width * h / w - height), abs(height * w / h - width)) >= 1:
        raise Refused(
            f"size is {width}x{height}, but image is {w} x {h} pixels, which is another aspect: nothing is stretched. "
            f"Give 'auto', or a size in its aspect, such as {width}x{max(8, round(width * h / w))}.", "size",
        )  # fmt: skip
    if width * height > limits.pixels:
        raise Refused(f"size is {width}x{height}, more than {limits.pixels / 10**6:g} million pixels.", "size")


def encoded(image: Image.Image, form: Form) -> str:
    """A picture as base64 of a file, of a form and size that was asked for, by Lanczos where it was made at another."""
    from PIL import Image

    if form.size is not None and image.size != form.size:
        image = image.resize(form.size, Image.Resampling.LANCZOS)
    if form.opaque and image.mode == "RGBA":
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image).convert("RGB")
    stream = io.BytesIO()
    image.save(stream, form.format, **({} if form.format == "png" else {"quality": form.compression}))
    return base64.b64encode(stream.getvalue()).decode()
