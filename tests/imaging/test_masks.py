"""Masks: what marks the pixels to edit, and what marks none."""

import numpy as np
import pytest
import torch
from pictures import PIXELS, H, W, encoded
from PIL import Image

from ctxrep_edit.errors import InputError
from ctxrep_edit.imaging import read_image, read_mask, shrink_mask

LEFT = np.zeros((H, W), bool)
LEFT[:, :5] = True


@pytest.mark.parametrize("kind", ["bool", "uint8", "float", "L", "1", "RGB", "opaque RGBA", "I;16", "tensor", "P"])
def test_white_is_edited(kind: str) -> None:
    grey = LEFT.astype(np.uint8) * 255
    mask = {
        "bool": LEFT,
        "uint8": grey,
        "float": LEFT.astype(float),
        "L": Image.fromarray(grey),
        "1": Image.fromarray(LEFT),
        "RGB": Image.fromarray(grey).convert("RGB"),
        "opaque RGBA": encoded(Image.fromarray(grey).convert("RGBA")),
        "I;16": Image.fromarray(grey.astype(np.uint16) * 257),
        "tensor": torch.from_numpy(LEFT)[None],
        "P": Image.fromarray(grey).convert("P"),
    }[kind]
    read = read_mask(mask, (W, H))
    assert read.dtype == np.bool_
    assert np.array_equal(read, LEFT)


def test_transparent_is_edited_whatever_its_colour() -> None:
    picture = Image.fromarray(PIXELS)
    picture.putalpha(Image.fromarray(np.where(LEFT, 0, 255).astype(np.uint8)))
    assert np.array_equal(read_mask(encoded(picture), (W, H)), LEFT)


def painted(colour: object, beneath: object, where: np.ndarray = LEFT) -> Image.Image:
    """Opaque strokes of a colour, or colours, `where`; transparent elsewhere."""
    layer = np.empty((H, W, 4), np.uint8)
    layer[..., :3] = np.where(where[..., None], colour, beneath)
    layer[..., 3] = where * 255
    return Image.fromarray(layer)


SOFT = painted((255, 255, 255), (0, 0, 0))
SOFT.putpixel((4, 4), (254, 255, 253, 140))  # the rim of a stroke, as canvases round it


@pytest.mark.parametrize(
    "layer",
    [
        painted((255, 255, 255), (0, 0, 0)),
        SOFT,
        painted((255, 0, 0), (0, 0, 0)),
        painted((255, 255, 255), PIXELS),
        painted(np.where(np.arange(W)[:, None] < 2, 255, 0), (0, 0, 0)),  # black and white strokes
    ],
    ids=["white", "soft", "red", "over a photograph", "black and white"],
)
def test_a_painted_layer_could_be_meant_either_way(layer: Image.Image) -> None:
    with pytest.raises(
        InputError, match=r"read in two ways .* painted or white means edit, and transparent means edit"
    ):
        read_mask(encoded(layer), (W, H))
    assert np.array_equal(read_mask(layer.getchannel("A"), (W, H)), LEFT)  # what the message advises
    black = painted((0, 0, 0), (0, 0, 0))
    assert np.array_equal(read_mask(black, (W, H)), ~LEFT)


@pytest.mark.parametrize(
    "layer",
    [
        painted((0, 0, 0), (0, 0, 0), ~LEFT),
        painted((0, 0, 0), (255, 255, 255), ~LEFT),
        painted((0, 0, 0), PIXELS, ~LEFT),
        painted((255, 255, 255), (255, 255, 255), ~LEFT),
        painted(PIXELS, (0, 0, 0), ~LEFT),
        painted(PIXELS, PIXELS, ~LEFT),
    ],
    ids=["black", "both agree", "beneath only", "one colour everywhere", "erased", "a photograph"],
)
def test_colours_that_say_nothing_leave_it_to_transparency(layer: Image.Image) -> None:
    assert np.array_equal(read_mask(encoded(layer), (W, H)), LEFT)


@pytest.mark.parametrize("scale", [0.25, 0.5, 2, 3.7])
def test_a_mask_of_the_same_aspect_is_resized(scale: float) -> None:
    big = np.zeros((90, 120), bool)
    big[:, :40] = True
    mask = Image.fromarray(big).convert("L").resize((round(120 * scale), round(90 * scale)))
    hole = Image.new("RGBA", mask.size)
    hole.putalpha(mask.point(lambda value: 255 - value))
    for given in (mask, np.asarray(mask), hole):
        read = read_mask(given, (120, 90))
        assert read.shape == (90, 120)
        assert (read != big).mean() < 0.02


@pytest.mark.parametrize(
    ("mask", "picture"), [((100, 67), (1500, 1000)), ((1500, 1000), (100, 67)), ((8, 6), (33, 25))]
)
def test_rounding_is_no_other_aspect(mask: tuple[int, int], picture: tuple[int, int]) -> None:
    assert read_mask(np.ones(mask[::-1]), picture).shape == picture[::-1]


@pytest.mark.parametrize("mode", ["LAB", "La", "RGBa"])
def test_modes_that_pillow_converts_by_way_of_another(mode: str) -> None:
    """A black or white pixel is what it was; as a mask, white is edited, and opaque follows the colours."""
    picture = Image.new("RGB", (W, H), "white")
    picture.paste("black", (5, 0, W, H))
    between = {"LAB": "RGB", "La": "LA", "RGBa": "RGBA"}[mode]
    picture = picture.convert(between).convert(mode)
    assert np.abs(np.asarray(read_image(picture))[:, :, 0].astype(int) - LEFT * 255).max() <= 1
    assert np.array_equal(read_mask(picture, (W, H)), LEFT)


def test_half_is_enough() -> None:
    assert read_mask(np.full((H, W), 0.5), (W, H)).all()
    assert read_mask(np.full((H, W), 128, np.uint8), (W, H)).all()


def test_all_white_is_fine() -> None:
    assert read_mask(np.ones((H, W)), (W, H)).all()


def test_a_mask_may_shrink_to_nothing() -> None:
    mask = Image.new("L", (90, 90))
    mask.putpixel((40, 40), 255)
    with pytest.raises(InputError, match="mask marks less than a pixel once it is brought from 90 x 90 to the 30 x 30"):
        shrink_mask(mask, (30, 30))
    mask.paste(255, (0, 0, 45, 90))
    assert shrink_mask(mask, (30, 30))[:, :15].all()


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.zeros((H, W)), "brightest pixel of mask is 0 of 255"),
        (LEFT.astype(np.uint8), "brightest pixel of mask is 1 of 255"),
        (np.dstack([PIXELS, np.full((H, W), 200, np.uint8)]), "transparent enough"),
        (np.ones((W, H)), "9 x 12 pixels but its picture is 12 x 9, which is another aspect"),
        (b"nothing", "not an image"),
    ],
)
def test_unusable_masks(mask: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_mask(mask, (W, H))  # type: ignore[arg-type]
