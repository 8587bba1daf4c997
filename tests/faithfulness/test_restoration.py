"""Edits put back into their source, opaque or not."""

import numpy as np
import pytest
from PIL import Image

from ctxrep_edit.faithfulness import restoration
from ctxrep_edit.faithfulness.restoration import restore

SIZE = W, H = 300, 200
EDIT = Image.new("RGB", (60, 40), (200, 40, 10))
REGION = Image.new("L", SIZE)
REGION.paste(255, (100, 0, 300, 200))


@pytest.fixture
def layer() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (H, W, 4), dtype=np.uint8)
    pixels[:20, :, 3] = 0  # with colours beneath, that are kept too
    return Image.fromarray(pixels)


def test_outside_every_pixel_is_the_sources_and_inside_the_edit_is_opaque(layer: Image.Image) -> None:
    made = restore(layer, EDIT, REGION)
    assert made.mode == "RGBA"
    before, after = np.asarray(layer), np.asarray(made)
    assert np.array_equal(after[:, :100], before[:, :100])
    assert (after[:, 120:] == (200, 40, 10, 255)).all()
    assert (after[:, 100:120, 3] >= before[:, 100:120, 3]).all()


def test_the_passage_from_a_transparent_source_has_the_colour_of_the_edit(layer: Image.Image) -> None:
    """What lies beneath transparent pixels is never mixed in."""
    after = np.asarray(restore(layer, EDIT, REGION), int)[:20, 100:]
    solid = after[..., 3] > 40  # of fainter ones, premultiplied, little colour is left
    assert 0 < after[..., 3].min() < 255
    assert np.abs(after[solid][:, :3] - (200, 40, 10)).max() <= 3


def test_bands_make_no_difference(layer: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = restore(layer, EDIT, REGION)
    monkeypatch.setattr(restoration, "BAND", 7)
    assert restore(layer, EDIT, REGION).tobytes() == whole.tobytes()


def test_an_opaque_layer_is_restored_as_a_picture_without_one(layer: Image.Image) -> None:
    layer.putalpha(255)
    opaque, flat = restore(layer, EDIT, REGION), restore(layer.convert("RGB"), EDIT, REGION)
    assert np.abs(np.asarray(opaque, int)[..., :3] - np.asarray(flat, int)).max() <= 1
