"""Colour spaces: whatever profile a picture comes with, it is worked on in sRGB."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image, ImageChops, ImageCms

_MODES = {  # by the profile's colour space, the modes of the pictures that it can be meant for
    "RGB": ("RGB", "RGBA", "RGBa", "RGBX", "P", "PA", "1", "L", "LA", "La", "YCbCr", "HSV"),
    "GRAY": ("1", "L", "LA", "La"),
    "CMYK": ("CMYK",),
}
_UNSEEN = 2  # levels of 255: a profile that moves no colour further is sRGB, and the pixels stay as they are


class BrokenColourProfile(UserWarning):
    """A picture's colour profile cannot be used, so that its values are taken for sRGB."""


def in_srgb(picture: Image.Image, name: str) -> Image.Image:
    """`picture` as RGB or RGBA in sRGB where it has a profile of another colour space; the very same where not.

    Colours are converted relative to white and black (relative colorimetric, black point compensated); transparency
    stays. Warns with BrokenColourProfile of a profile that cannot be read or is meant for other pixels.
    """
    content = picture.info.get("icc_profile")
    if not content or picture.mode == "LAB":  # Lab is absolute: Pillow converts it
        return picture
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(content))
        space = profile.profile.xcolor_space.strip()
        if picture.mode not in _MODES.get(space, ()):
            raise ValueError(f"it is for {space} pixels, these are {picture.mode}")
        return _converted(picture, profile, space)
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError, ImportError) as error:
        warnings.warn(
            f"{name} has a colour profile that cannot be used ({error}), so its values are taken for sRGB. "
            "Where its colours are off, export it anew in sRGB.",
            BrokenColourProfile,
            stacklevel=4,
        )
        return picture


def _converted(picture: Image.Image, profile: ImageCms.ImageCmsProfile, space: str) -> Image.Image:
    clear = picture.has_transparency_data
    if space == "CMYK":
        return _transform(profile, "CMYK", "RGB").apply(picture)
    if space == "GRAY":
        transform = _transform(profile, "L", "RGB")
        if _is_srgb(transform, _ramp("L")):
            return picture
        grey = picture.convert("LA" if clear else "L")
        colours = transform.apply(grey.getchannel("L"))
        if clear:
            colours.putalpha(grey.getchannel("A"))
        return colours
    if _is_srgb(_transform(profile, "RGB", "RGB"), _ramp("RGB")):
        return picture
    mode = "RGBA" if clear else "RGB"
    return _transform(profile, mode, mode).apply(picture.convert(mode))  # keeps alpha


def _transform(profile: ImageCms.ImageCmsProfile, before: str, after: str) -> ImageCms.ImageCmsTransform:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    return ImageCms.ImageCmsTransform(
        profile, srgb, before, after,
        ImageCms.Intent.RELATIVE_COLORIMETRIC, flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )  # fmt: skip


def _ramp(mode: str) -> Image.Image:
    """Every grey, or every sixteenth colour along each axis."""
    if mode == "L":
        return Image.frombytes("L", (256, 1), bytes(range(256)))
    colours = np.stack(np.meshgrid(*3 * [np.arange(0, 256, 17, dtype=np.uint8)]), -1)  # (16, 16, 16, 3)
    return Image.fromarray(colours.reshape(64, 64, 3))


def _is_srgb(transform: ImageCms.ImageCmsTransform, ramp: Image.Image) -> bool:
    moved = ImageChops.difference(transform.apply(ramp), ramp.convert("RGB"))
    return int(np.asarray(moved).max()) <= _UNSEEN
