"""Pictures as people hand them over, turned into RGB.

Nothing else in ctxrep-edit looks at file types, bit depths, alpha or value ranges. Whatever cannot be used is an
`InputError`.
"""

from __future__ import annotations

import io
import os
import re
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, UnidentifiedImageError

from ctxrep_edit.errors import InputError
from ctxrep_edit.imaging.arrays import convert, from_array, from_tensor, is_clear, on_white
from ctxrep_edit.imaging.colour import in_srgb
from ctxrep_edit.imaging.exif import credits_of, upright

if TYPE_CHECKING:
    import torch

ImageLike: TypeAlias = "Image.Image | str | os.PathLike[str] | bytes | IO[bytes] | npt.NDArray[Any] | torch.Tensor"

MIN_SIDE = 8
"""Pixels: the shortest side of a picture that can be edited."""

LONGEST_ASPECT = 12
"""How many times as long as wide a picture may be that is edited or assessed."""


_KINDS = "a PIL image, a path, an image file opened as binary or its bytes, a numpy array or a torch tensor"


@dataclass(frozen=True)
class Source:
    """A picture that is to be edited.

    image: RGB in sRGB, upright, any transparency laid on white. layer: the same as RGBA, where it has transparency.
    credits: what its EXIF says of "artist" and "copyright".
    """

    image: Image.Image
    layer: Image.Image | None = None
    credits: Mapping[str, str] = field(default_factory=dict)


def read_image(image: ImageLike, *, name: str = "image") -> Image.Image:
    """`image` as an RGB picture in sRGB, upright, with any transparency laid on white, its `info` empty.

    Takes a PIL image, a path, an image file that is open as binary, from its start, or its bytes (the first frame of
    an animation), a numpy array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), or a torch tensor (H, W), (C, H, W) or
    (1, C, H, W) with C of 1, 3 or 4. An open file that can seek is left where it was. Values: uint8 0 to 255, uint16
    0 to 65535, float 0 to 1, or bool; an integer picture of PIL mode "I" counts as 16-bit and one of mode "F" as float
    0 to 1. `name` is what messages call the picture.

    Colours are converted from the picture's ICC profile; a profile that cannot be used is ignored, with the warning
    BrokenColourProfile. EXIF turns the picture upright; EXIF that cannot be read is ignored.

    A file may have as many pixels as Pillow opens at all, twice `PIL.Image.MAX_IMAGE_PIXELS`: 179 million unless that
    is changed. What is in memory already has no limit. Reading takes at most 17 bytes a pixel beside what was given.

    Raises `InputError` for anything else, for files that are missing, broken or above that limit, and for sides
    shorter than `MIN_SIDE`.
    """
    return read_source(image, name=name).image


def read_source(image: ImageLike | Source, *, name: str = "image") -> Source:
    """`read_image` with what else of `image` outlives an edit; errors are the same. What was read already stays so."""
    if isinstance(image, Source):
        return image
    loaded = _loaded(image, name)
    credits = credits_of(loaded)
    picture = in_srgb(_shallow(upright(loaded), name), name)
    del loaded
    if min(picture.size) < MIN_SIDE:
        raise InputError(
            f"{name} is {picture.width} x {picture.height} pixels, too small to edit: "
            f"each side must have at least {MIN_SIDE}. Give a larger picture."
        )
    layer = None
    if picture.has_transparency_data:
        picture = convert(picture, "RGBA", name)
        layer = picture if is_clear(picture) else None
    flat = picture if picture.mode == "RGB" and picture is not image else on_white(picture, name)
    for made in (flat, layer):
        if made is not None:
            made.info = {}  # of the file as it was: its profile and its turn hold no longer
    return Source(flat, layer, credits)


def check_aspect(picture: Image.Image, name: str) -> None:
    """Raises `InputError` where `picture` is more than `LONGEST_ASPECT` times as long as wide."""
    if max(picture.size) > LONGEST_ASPECT * min(picture.size):
        raise InputError(
            f"{name} is {picture.width} x {picture.height} pixels, too long and narrow: give a part of it that is at "
            f"most {LONGEST_ASPECT} times as long as wide."
        )


def read_references(pictures: Any) -> tuple[Source, ...]:
    """The further pictures that an instruction speaks of."""
    if not isinstance(pictures, list | tuple):
        kind = type(pictures).__name__
        raise InputError(f"references is a {kind}, but must be a list of pictures, such as ['hat.png'].")
    read = tuple(read_source(picture, name=f"reference {i}") for i, picture in enumerate(pictures, 1))
    for i, one in enumerate(read, 1):
        check_aspect(one.image, f"reference {i}")
    return read


def open_picture(image: ImageLike, name: str) -> Image.Image:
    """Any accepted kind as an upright PIL image of at most 8 bits a channel, its mode otherwise untouched."""
    return _shallow(upright(_loaded(image, name)), name)


def _loaded(image: ImageLike, name: str) -> Image.Image:
    """Any accepted kind as a PIL image that has pixels, as it lies in its file."""
    torch = sys.modules.get("torch")  # whoever hands over a tensor has imported torch
    if torch is not None and isinstance(image, torch.Tensor):
        return from_array(from_tensor(image, name), name)
    if isinstance(image, np.ndarray):
        return from_array(image, name)
    if isinstance(image, Image.Image | bytes | bytearray):
        picture = _decoded(image, name)
    elif isinstance(image, str | os.PathLike):
        picture = _decoded(_existing(image, name), name)
    elif hasattr(image, "read"):
        picture = _decoded(_content(image, name), name)
    else:
        raise InputError(f"{name} is of type {type(image).__name__}, which is no picture. Give {_KINDS}.")
    if 0 in picture.size:
        raise InputError(f"{name} has no pixels: its size is {picture.width} x {picture.height}.")
    return picture


def _shallow(picture: Image.Image, name: str) -> Image.Image:
    """`picture` with at most 8 bits a channel."""
    if picture.mode == "F":
        return from_array(np.asarray(picture), name)
    if not picture.mode.startswith("I"):
        return picture
    deep = np.asarray(picture)  # 16 bits, or 32 that hold 16; Pillow's own conversion clips at 255
    if deep.min() < 0 or deep.max() > 65535:
        raise InputError(
            f"{name} is an integer picture with values {deep.min()} to {deep.max()}, beyond 16 bits. "
            f"Scale it to 0 ... 65535, or to 0 ... 1 as floats."
        )
    grey = from_array(deep.astype(np.uint16), name)
    key = picture.info.get("transparency")
    if isinstance(key, int):
        grey.putalpha(Image.fromarray(deep != key).convert("L"))
    grey.info["icc_profile"] = picture.info.get("icc_profile")
    return grey


def _existing(path: str | os.PathLike[str], name: str) -> Path:
    """The path, once it is known to lead to something that is not a folder."""
    shown = str(path) if len(str(path)) <= 200 else f"{str(path)[:200]}..."
    if shown.startswith(("http:/", "https:/", "data:")):
        address = re.sub("^(https?):/+", r"\1://", shown)  # a Path has a slash less
        raise InputError(f"{name} is the address {address}, which is not fetched. Download it and give the file.")
    try:
        found = Path(path).expanduser()
        is_folder, exists = found.is_dir(), found.exists()
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} cannot be opened at {shown!r}: {error}. Check the path.") from error
    if is_folder:
        raise InputError(f"{name} is the folder {shown!r}, not a picture. Give one file in it.")
    if not exists:
        raise InputError(f"{name} does not exist: there is no file {shown!r}. Check the path.")
    return found


def _content(file: Any, name: str) -> bytes:
    """All of an open file, which is left where it was; of one that cannot seek what is left of it."""
    try:
        seeks = file.seekable()
        place = file.tell() if seeks else 0
        if seeks:
            file.seek(0)
        content = file.read()
        if seeks:
            file.seek(place)
    except Exception as error:  # of anything that has a method called so
        raise InputError(f"{name} cannot be read: {error or type(error).__name__}. Open the file again.") from error
    if not isinstance(content, bytes):
        raise InputError(f"{name} is a file that is not open as binary: open it with mode 'rb'.")
    return content


def _decoded(source: Image.Image | Path | bytes | bytearray, name: str) -> Image.Image:
    """All pixels in memory, with every way in which that fails put into words."""
    origin = f"{name} ({source})" if isinstance(source, Path) else name
    try:
        if isinstance(source, Image.Image):
            source.load()
            return source
        with open(source, "rb") if isinstance(source, Path) else io.BytesIO(source) as stream:
            picture = _identified(stream)
            _check_pixels(picture, origin)
            _scale_key(picture)
            picture.load()
        return picture
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(f"{origin} does not fit in memory. Make it smaller, or free some.") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{origin} is not an image in a format that Pillow reads. Save it as PNG or JPEG.") from error
    except PermissionError as error:
        raise InputError(f"{origin} may not be read: {error.strerror}. Change the file's permissions.") from error
    except Exception as error:  # a damaged file makes Pillow raise almost anything
        raise InputError(
            f"{origin} is truncated or broken: {error or type(error).__name__}. Export or download it again."
        ) from error


def _identified(stream: IO[bytes]) -> ImageFile.ImageFile:
    """`PIL.Image.open`, but silent on pictures of up to twice its limit.

    Its warning could only be held back by a filter of the whole process, which other threads would see.
    """
    start = stream.read(16)
    tried = set()
    for register in (Image.preinit, Image.init):  # the usual formats, then all
        register()
        for form in [form for form in Image.ID if form not in tried]:
            tried.add(form)
            factory, accepts = Image.OPEN[form]
            try:
                answer = accepts is None or accepts(start)
                if answer and not isinstance(answer, str):  # which says why not
                    stream.seek(0)
                    return factory(stream, "")
            except (SyntaxError, IndexError, TypeError, struct.error):  # another format
                continue
    raise UnidentifiedImageError


def _check_pixels(picture: Image.Image, origin: str) -> None:
    most = Image.MAX_IMAGE_PIXELS
    pixels = picture.width * picture.height
    if most is not None and pixels > 2 * most:
        raise InputError(
            f"{origin} is too large to open safely: {picture.width} x {picture.height} are {pixels} pixels, above "
            f"{2 * most}. Make it smaller, or, if you trust the file, raise the limit first: "
            "PIL.Image.MAX_IMAGE_PIXELS = <half of its pixels>."
        )


def _scale_key(picture: ImageFile.ImageFile) -> None:
    """Brings the transparent colour of a PNG to the 8 bits to which Pillow decodes it; 16-bit grey stays deep."""
    raw = str(picture.tile[0][3]) if picture.format == "PNG" and picture.tile else ""
    key = picture.info.get("transparency")
    if raw in ("L;2", "L;4") and isinstance(key, int):
        picture.info["transparency"] = key * (85 if raw == "L;2" else 17)
    elif raw == "RGB;16B" and isinstance(key, tuple):
        picture.info["transparency"] = tuple(value >> 8 for value in key)
