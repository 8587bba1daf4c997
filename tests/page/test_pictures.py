"""What the page shows of changes, the mask that was painted, and what it asks of a server."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from ctxrep_plugins.page.pictures import BORDER, HOT, changed, mask, shown
from PIL import Image
from serving import encoded

from ctxrep_edit import InputError


def nearest(picture: Image.Image, place: tuple[int, int]) -> float:
    """How far a pixel is from the red of what changed."""
    return float(np.abs(np.array(picture.getpixel(place), float) - HOT).max())


def test_what_changed_is_red_and_nothing_else(tmp_path: Path) -> None:
    source = Image.new("RGB", (120, 80), "gray")
    edit = source.copy()
    edit.paste("blue", (60, 20, 110, 70))
    source.save(tmp_path / "source.png")
    edit.save(tmp_path / "edit.png")
    files = tmp_path / "source.png", tmp_path / "edit.png"
    by_pixels = changed(*files, None, None)
    assert nearest(by_pixels, (85, 45)) < 40
    assert nearest(by_pixels, (20, 40)) > 60
    heat = Image.new("L", (30, 20), 0)
    heat.paste(255, (0, 0, 10, 20))
    region = Image.new("L", source.size, 0)
    region.paste(255, (60, 20, 110, 70))
    measured = changed(*files, encoded(heat), encoded(region))
    assert nearest(measured, (10, 40)) < 40
    assert nearest(measured, (85, 45)) > 60
    assert measured.getpixel((60, 45)) == BORDER
    assert measured.getpixel((50, 45)) != BORDER


def test_a_mask_has_the_size_of_the_upright_picture() -> None:
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # taken on its side
    Image.new("RGB", (120, 80), "gray").save(stream, "JPEG", exif=exif)
    assert shown(stream.getvalue(), 60).size == (40, 60)
    layer = Image.new("RGBA", (40, 60), (0, 0, 0, 0))
    layer.paste((232, 62, 40, 176), (10, 10, 20, 20))
    made = Image.open(io.BytesIO(mask([layer], stream.getvalue())))
    assert (made.size, made.getbbox()) == ((80, 120), (20, 20, 40, 40))
    assert set(np.asarray(made).flatten()) == {0, 255}
    with pytest.raises(InputError, match="Nothing is painted yet"):
        mask([Image.new("RGBA", (40, 60), (0, 0, 0, 0))], stream.getvalue())
