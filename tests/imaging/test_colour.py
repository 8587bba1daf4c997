"""Colour profiles: every picture is read in sRGB, and one that is there already keeps its very pixels."""

import warnings

import numpy as np
import profiles
import pytest
from pictures import PIXELS, H, W, encoded, same
from PIL import Image
from profiles import in_p3, shown

from ctxrep_edit import BrokenColourProfile
from ctxrep_edit.imaging import read_image, read_mask, read_source


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_display_p3_is_read_in_srgb(form: str, mode: str) -> None:
    wide = Image.fromarray(in_p3(PIXELS)).convert(mode)
    read = read_image(encoded(wide, form, icc_profile=profiles.rgb(), **({"lossless": True} if form == "WEBP" else {})))
    assert np.abs(np.asarray(read, int) - PIXELS).max() <= 4  # 8 bits of P3 are coarse in dark red
    assert np.abs(np.asarray(read, int) - PIXELS).mean() < 0.6
    assert read.info == {}


def test_the_colours_that_were_reported() -> None:
    assert read_image(encoded(Image.new("RGB", (W, H), (184, 71, 50)), icc_profile=profiles.rgb())).getpixel(
        (0, 0)
    ) == (pytest.approx((200, 60, 40), abs=1.1))


def test_transparency_and_palettes_are_converted_too() -> None:
    layer = Image.fromarray(np.dstack([in_p3(PIXELS), np.arange(H * W, dtype=np.uint8).reshape(H, W)]))
    source = read_source(encoded(layer, icc_profile=profiles.rgb()))
    assert source.layer is not None
    assert source.layer.getchannel("A").tobytes() == layer.getchannel("A").tobytes()
    assert np.abs(np.asarray(source.layer, int)[..., :3] - PIXELS).mean() < 0.6
    palette = Image.new("RGB", (W, H), (184, 71, 50)).quantize(2)
    assert read_image(encoded(palette, icc_profile=profiles.rgb())).getpixel((0, 0))[0] > 197
    grey = Image.new("LA", (W, H), (100, 77))
    source = read_source(encoded(grey, icc_profile=profiles.grey(1.0)))
    assert source.layer is not None
    assert source.layer.getpixel((0, 0)) == (pytest.approx(shown(np.array(100 / 255)), abs=1.1),) * 3 + (77,)


@pytest.mark.parametrize("mode", ["L", "I;16"])
def test_grey_of_another_curve(mode: str) -> None:
    deep = mode == "I;16"
    picture = Image.fromarray(np.full((H, W), 100 * 257 if deep else 100, np.uint16 if deep else np.uint8))
    read = read_image(encoded(picture, icc_profile=profiles.grey(1.0)))
    assert read.getpixel((0, 0)) == (pytest.approx(shown(np.array(100 / 255)), abs=1.1),) * 3


def test_inks() -> None:
    page = Image.new("CMYK", (W, H))
    page.paste((255, 0, 0, 0), (0, 0, 6, H))
    for form in ("TIFF", "JPEG"):
        read = read_image(encoded(page, form, icc_profile=profiles.cmyk()))
        assert read.getpixel((W - 1, 0)) == pytest.approx((255, 255, 255), abs=3)
        assert read.getpixel((0, 0)) == pytest.approx((0, 164, 232), abs=12)  # a cyan that can be printed


def test_pictures_in_srgb_keep_their_very_pixels() -> None:
    assert same(read_image(encoded(Image.fromarray(PIXELS), icc_profile=profiles.rgb(profiles.SRGB))))
    grey = PIXELS[..., 0]
    for profile in (profiles.rgb(), profiles.rgb(profiles.SRGB)):  # grey is grey in every one with this curve
        read = read_image(encoded(Image.fromarray(grey), icc_profile=profile))
        assert np.abs(np.asarray(read, int) - grey[..., None]).max() <= 1


@pytest.mark.parametrize(
    ("profile", "reason"),
    [
        (b"none", "cannot open profile"),
        (profiles.rgb()[:300], "cannot"),
        (profiles.grey(2.2), "it is for GRAY pixels, these are RGB"),
        (profiles.cmyk(), "it is for CMYK pixels, these are RGB"),
    ],
    ids=["noise", "cut", "grey", "inks"],
)
def test_a_profile_that_cannot_be_used_is_ignored_and_said(profile: bytes, reason: str) -> None:
    content = encoded(Image.fromarray(PIXELS), icc_profile=profile)
    with pytest.warns(BrokenColourProfile, match=f"the source has a colour profile .*{reason}") as said:
        read = read_image(content, name="the source")
    assert len(said) == 1
    assert same(read)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(read_image(read))


def test_masks_are_no_colours() -> None:
    mask = Image.new("L", (W, H), 140)
    assert read_mask(encoded(mask, icc_profile=profiles.grey(2.6)), (W, H)).all()
    assert read_mask(encoded(mask, icc_profile=b"none"), (W, H)).all()
