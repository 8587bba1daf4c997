"""Every kind of picture, and every way in which one can be unusable."""

import io
import os
import struct
import tempfile
import warnings
import zlib
from pathlib import Path

import numpy as np
import profiles
import pytest
import torch
from pictures import PIXELS, H, W, encoded, same
from PIL import ExifTags, Image

from ctxrep_edit.errors import InputError
from ctxrep_edit.imaging import MIN_SIDE, read_image, read_source


@pytest.mark.parametrize("kind", ["pil", "str", "path", "bytes", "uint8", "float", "float16", "uint16", "alpha"])
def test_each_kind_gives_the_same_pixels(kind: str, tmp_path: Path) -> None:
    picture = Image.fromarray(PIXELS)
    file = tmp_path / "picture.png"
    picture.save(file)
    image = {
        "pil": picture,
        "str": str(file),
        "path": file,
        "bytes": encoded(picture),
        "uint8": PIXELS,
        "float": PIXELS / 255,
        "float16": (PIXELS / 255).astype(np.float16),
        "uint16": PIXELS.astype(np.uint16) * 257,
        "alpha": np.dstack([PIXELS, np.full((H, W), 255, np.uint8)]),
    }[kind]
    assert same(read_image(image))


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("mode", ["I;16", "I", "I;16B"])
def test_16_bits_are_scaled_not_clipped(mode: str, fresh: bool) -> None:
    deep = (np.arange(H * W, dtype=np.uint16).reshape(H, W)) * 600
    if mode == "I;16":
        picture = Image.fromarray(deep)
    elif mode == "I":
        picture = Image.fromarray(deep.astype(np.int32))
    else:
        picture = Image.frombytes("I;16B", (W, H), deep.astype(">u2").tobytes())
    image = encoded(picture, "TIFF") if fresh else picture
    expected = np.rint(deep / 257).astype(np.uint8)
    assert np.array_equal(np.asarray(read_image(image))[:, :, 0], expected)


def test_16_bit_png() -> None:
    deep = np.full((H, W), 32768, np.uint16)
    assert read_image(encoded(Image.fromarray(deep))).getpixel((0, 0)) == (128, 128, 128)


def test_float_mode() -> None:
    assert read_image(Image.new("F", (W, H), 0.2)).getpixel((0, 0)) == (51, 51, 51)
    with pytest.raises(InputError, match="255"):
        read_image(Image.new("F", (W, H), 200.0))


def test_integer_mode_beyond_16_bits() -> None:
    with pytest.raises(InputError, match="beyond 16 bits"):
        read_image(Image.new("I", (W, H), 70000))


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV", "RGBX"])
def test_opaque_modes(mode: str) -> None:
    red, _, _ = read_image(Image.new("RGB", (W, H), "white").convert(mode)).getpixel((0, 0))
    assert red >= 254


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_alpha_lies_on_white(mode: str) -> None:
    clear = Image.new({"RGBA": "RGB", "LA": "L", "PA": "P"}[mode], (W, H)).convert(mode)
    clear.putalpha(0)
    assert clear.mode == mode
    assert read_image(clear).getpixel((0, 0)) == (255, 255, 255)


def test_half_transparent_black_is_grey() -> None:
    assert read_image(Image.new("RGBA", (W, H), (0, 0, 0, 128))).getpixel((0, 0)) == (127, 127, 127)


def test_transparent_palette_entry_lies_on_white() -> None:
    picture = Image.new("P", (W, H), 0)
    picture.putpalette([0, 0, 0, 255, 0, 0])
    picture.putpixel((3, 3), 1)
    read = read_image(encoded(picture, transparency=0))
    assert read.getpixel((0, 0)) == (255, 255, 255)
    assert read.getpixel((3, 3)) == (255, 0, 0)


def test_exif_orientation_is_respected(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = tmp_path / "turned.png"
    Image.fromarray(PIXELS).save(file, exif=exif)
    assert same(read_image(file), np.rot90(PIXELS, -1))


def test_animation_gives_its_first_frame() -> None:
    first, second = Image.new("RGB", (W, H), "red"), Image.new("RGB", (W, H), "blue")
    content = encoded(first, "GIF", save_all=True, append_images=[second])
    assert read_image(content).getpixel((0, 0)) == (255, 0, 0)


def test_the_given_picture_is_left_alone() -> None:
    picture = Image.fromarray(PIXELS)
    read_image(picture).paste("black", (0, 0, W, H))
    assert same(picture)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("no/such/file.png", "there is no file"),
        ("bad\0name.png", "Check the path"),
        ("x" * 5000, "Check the path"),
        ("https://example.org/a.png", "not fetched"),
        (Path("https://example.org/a.png"), "the address https://example.org/a.png, which is not fetched. Download it"),
        (b"", "not an image"),
        (b"neither PNG nor JPEG", "not an image"),
        (encoded(Image.fromarray(PIXELS))[:-90], "truncated or broken"),
        (encoded(Image.new("RGB", (64, 64)), "JPEG")[:-40], "truncated or broken"),
        (None, "NoneType"),
        (42, "int"),
        ([PIXELS], "list"),
        (np.zeros((0, 9, 3)), "no pixels"),
        (Image.new("RGB", (0, 9)), "no pixels"),
        (np.zeros((1, H, W, 3)), "shape"),
        (np.zeros((3, H, W)), "moveaxis"),
        (np.zeros((H, W, 2)), "shape"),
        (np.zeros(12), "shape"),
        (np.zeros((H, W), np.int64), "int64"),
        (np.zeros((H, W), np.complex64), "complex64"),
        (np.full((H, W), np.nan), "NaN"),
        (np.full((H, W), np.inf), "infinite"),
        (np.linspace(-1, 1, H * W).reshape(H, W), r"\(x \+ 1\) / 2"),
        (PIXELS.astype(np.float32), "x / 255"),
        (np.full((H, W), -7.0), r"Scale it to \[0, 1\]"),
        (torch.zeros(2, 3, H, W), "batch of 2"),
        (torch.zeros(H, W, 3), "permute"),
        (torch.zeros(3), "shape"),
        (torch.full((3, H, W), -1.0), r"\(x \+ 1\) / 2"),
        (torch.zeros(3, H, W, dtype=torch.int64), "int64"),
        (np.zeros((1, 1, 3), np.uint8), "too small"),
        (Image.new("RGB", (MIN_SIDE - 1, 99)), "7 x 99"),
    ],
)
def test_unusable_pictures(image: object, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        read_image(image, name="the source")  # type: ignore[arg-type]
    assert "the source" in str(caught.value)


def test_a_folder_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is the folder"):
        read_image(tmp_path)


def test_smallest_side_is_accepted() -> None:
    assert read_image(Image.new("RGB", (MIN_SIDE, MIN_SIDE))).size == (MIN_SIDE, MIN_SIDE)


def png(depth: int, colour: int, row: bytes, key: bytes) -> bytes:
    """A PNG of W x H pixels, all rows alike, with a transparent colour."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">L", len(content)) + name + content + struct.pack(">L", zlib.crc32(name + content))

    head = chunk(b"IHDR", struct.pack(">LLBBBBB", W, H, depth, colour, 0, 0, 0)) + chunk(b"tRNS", key)
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(H * (b"\0" + row))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "left"),
    [
        (png(16, 0, struct.pack(">H", 30000) * 6 + struct.pack(">H", 30001) * 6, struct.pack(">H", 30000)), 117),
        (
            png(
                16, 2, struct.pack(">3H", 1, 2, 3) * 6 + struct.pack(">3H", 999, 2, 3) * 6, struct.pack(">3H", 1, 2, 3)
            ),
            3,
        ),
        (png(4, 0, b"\x55" * 3 + b"\x77" * 3, struct.pack(">H", 5)), 119),
        (png(2, 0, b"\x55" * 1 + b"\x5a" + b"\xaa", struct.pack(">H", 1)), 170),
        (png(8, 0, bytes([9] * 6 + [10] * 6), struct.pack(">H", 9)), 10),
    ],
    ids=["16-bit grey", "16-bit colours", "4-bit grey", "2-bit grey", "8-bit grey"],
)
def test_a_transparent_colour_is_transparent_at_every_depth(content: bytes, left: int) -> None:
    source = read_source(content)
    assert source.layer is not None
    assert np.asarray(source.layer)[..., 3].tolist() == H * [6 * [0] + 6 * [255]]
    assert source.image.getpixel((0, 0)) == (255, 255, 255)
    assert source.image.getpixel((W - 1, 0))[0] == left


def test_a_source_keeps_its_transparency() -> None:
    layer = np.dstack([PIXELS, np.arange(H * W, dtype=np.uint8).reshape(H, W)])
    source = read_source(encoded(Image.fromarray(layer)))
    assert source.layer is not None
    assert np.array_equal(np.asarray(source.layer), layer)
    assert same(source.image, np.asarray(read_image(layer)))
    assert read_source(encoded(Image.fromarray(PIXELS).convert("RGBA"))).layer is None


def test_what_was_read_bears_nothing_of_the_file(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Artist] = 6, "Ada"
    file = tmp_path / "picture.jpg"
    Image.fromarray(PIXELS).save(file, exif=exif, dpi=(300, 300), icc_profile=profiles.rgb())
    read = read_image(file)
    assert read.info == {}
    assert dict(read.getexif()) == {}
    assert read_image(read).size == read.size == (H, W)  # not turned twice


def test_nothing_of_the_process_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread would see it: a filter of warnings that one call puts back, another has just replaced."""

    def borrow(*_: object, **__: object) -> None:
        raise AssertionError("the filters of the whole process")

    content, filters = encoded(Image.fromarray(PIXELS)), list(warnings.filters)
    with monkeypatch.context() as patch:
        patch.setattr(warnings, "catch_warnings", borrow)
        patch.setattr(warnings, "simplefilter", borrow)
        patch.setattr(Image, "MAX_IMAGE_PIXELS", W * H - 1)
        read = read_image(content)
    assert same(read)
    assert list(warnings.filters) == filters


@pytest.mark.filterwarnings("error")  # no warning beside it
def test_files_may_have_twice_pillows_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(Image.fromarray(PIXELS))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", W * H // 2)
    assert same(read_image(content))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", W * H // 2 - 1)
    with pytest.raises(InputError, match=r"108 pixels[^.]*\. Make it smaller, or, if you trust .*MAX_IMAGE_PIXELS"):
        read_image(content)
    assert same(read_image(Image.fromarray(PIXELS)))  # in memory already


def test_an_open_file_is_read_from_its_start_and_left_where_it_was(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(encoded(Image.fromarray(PIXELS)))
    with open(tmp_path / "x.png", "rb") as file, io.BytesIO() as memory, tempfile.SpooledTemporaryFile() as spooled:
        for stream in (file, memory, spooled):
            if stream is not file:
                stream.write((tmp_path / "x.png").read_bytes())  # and now it is at its end
            place = stream.tell()
            assert same(read_image(stream))
            assert stream.tell() == place


def test_what_is_left_of_an_open_file_that_cannot_seek_is_read() -> None:
    end, start = os.pipe()
    with open(start, "wb") as writer:
        writer.write(encoded(Image.fromarray(PIXELS)))
    with open(end, "rb") as reader:
        assert same(read_image(reader))


def test_a_file_that_is_closed_or_open_as_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("words")
    with open(tmp_path / "x.txt") as stream, pytest.raises(InputError, match="image is a file that is not open as b"):
        read_image(stream)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"image cannot be read: .*closed file.* Open the file again"):
        read_image(stream)  # type: ignore[arg-type]
