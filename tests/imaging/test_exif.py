"""EXIF, whole and damaged: it may turn a picture and name its author, and never costs the pixels."""

import struct

import numpy as np
import pytest
from pictures import PIXELS, H, W, encoded
from PIL import ExifTags, Image

from ctxrep_edit.imaging import exif_with, read_image, read_source
from ctxrep_edit.imaging.exif import credits_of

PHOTO = Image.fromarray(PIXELS).resize((96, 64), Image.Resampling.BICUBIC)
NO_TIFF = b"Exif\0\0" + bytes.fromhex("0008000201120003")
ODD = b"72.\0"  # text, where a resolution should be
TURNED = b"Exif\0\0II*\0" + struct.pack("<LH", 8, 2) + struct.pack("<HHLL", 0x112, 3, 1, 6)
TURNED += struct.pack("<HHL", 0x11A, 2, 4) + ODD + struct.pack("<L", 0)
CUT = b"Exif\0\0II*\0" + struct.pack("<LH", 8, 200)
FORMS = {"PNG": {}, "WEBP": {"lossless": True}, "JPEG": {"quality": 95}}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("exif", [NO_TIFF, CUT, b"Exif\0\0", b"\xff" * 50], ids=["no TIFF", "cut", "empty", "noise"])
def test_exif_that_cannot_be_read_counts_as_none(form: str, exif: bytes) -> None:
    whole, damaged = (read_image(encoded(PHOTO, form, **FORMS[form], **options)) for options in ({}, {"exif": exif}))
    assert damaged.tobytes() == whole.tobytes()


@pytest.mark.parametrize("form", FORMS)
def test_a_turn_is_followed_whatever_stands_beside_it(form: str) -> None:
    content = encoded(PHOTO, form, **FORMS[form], exif=TURNED)
    assert np.array_equal(
        np.asarray(read_image(content)), np.rot90(read_image(encoded(PHOTO, form, **FORMS[form])), -1)
    )
    assert read_image(content).size == (64, 96)


@pytest.mark.parametrize("turn", range(10))
def test_every_turn(turn: int) -> None:
    """Tags 0 and 9 are none of EXIF's."""
    upright = {
        2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).transpose(1, 0, 2), 8: np.rot90,
    }.get(turn, lambda a: a)  # fmt: skip
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = turn
    given = Image.open(__import__("io").BytesIO(encoded(Image.fromarray(PIXELS), exif=exif)))
    before = given.tobytes(), dict(given.getexif())
    assert np.array_equal(np.asarray(read_image(given)), upright(PIXELS))
    assert (given.tobytes(), dict(given.getexif())) == before


@pytest.mark.parametrize("value", ["6", (6, 6), 6.5, b"\6"])
def test_a_turn_that_is_none(value: object) -> None:
    picture = Image.fromarray(PIXELS)
    picture.getexif()[ExifTags.Base.Orientation] = value
    assert read_image(picture).size == (W, H)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("name", ["Ada Lovelace", "Ana Muñoz", "李"])
def test_credits(form: str, name: str) -> None:
    exif = exif_with({"artist": name, "copyright": "© 1843 " + name})
    exif[ExifTags.Base.Orientation] = 6
    source = read_source(encoded(PHOTO, form, exif=exif))
    assert source.credits == {"artist": name, "copyright": "© 1843 " + name}


def test_credits_in_latin_1_and_of_odd_kinds() -> None:
    picture = Image.fromarray(PIXELS)
    assert credits_of(picture) == {}
    picture.getexif()[ExifTags.Base.Artist] = "Mu\xf1oz\0"
    picture.getexif()[ExifTags.Base.Copyright] = 7
    assert credits_of(picture) == {"artist": "Muñoz"}
    assert read_source(encoded(PHOTO, exif=NO_TIFF)).credits == {}
