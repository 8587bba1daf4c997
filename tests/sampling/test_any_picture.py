"""Any picture and mask gives a right answer or a clear error, and a very big one takes bounded memory."""

import functools
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from PIL import Image

from ctxrep_edit import InputError, assess, diverse_edit, load_pipeline
from ctxrep_edit.faithfulness.restoration import BYTES_AT_WORK, BYTES_KEPT
from ctxrep_edit.imaging import read_source
from ctxrep_edit.sampling import particles

MODES = (
    "1",
    "L",
    "LA",
    "La",
    "P",
    "PA",
    "RGB",
    "RGBA",
    "RGBa",
    "RGBX",
    "CMYK",
    "YCbCr",
    "LAB",
    "HSV",
    "I",
    "I;16",
    "F",
)
SIDES = (1, 7, 8, 9, 31, 64, 100, 130)
REFUSED = r"too small to edit|too long and narrow|differ by more|another aspect|marks nothing|marks less than a pixel"


def in_mode(grey: Image.Image, mode: str) -> Image.Image:
    """A picture of mode L in another mode; where that has transparency, bright is transparent."""
    if mode == "I;16":
        return Image.fromarray(np.asarray(grey, np.uint16) * 257)
    if mode in ("I", "F"):
        return Image.fromarray(np.asarray(grey, np.int32) * 257 if mode == "I" else np.asarray(grey, np.float32) / 255)
    if mode in ("LA", "PA", "RGBA", "La", "RGBa"):
        clear = grey.convert({"P": "P", "L": "L"}.get(mode[0], "RGB")).convert(mode.upper())
        clear.putalpha(grey.point(lambda value: 255 - value))
        return clear.convert(mode)
    return grey.convert("RGB").convert(mode)


def turned(picture: Image.Image, orientation: int) -> Image.Image:
    picture.getexif()[0x0112] = orientation
    return picture


def as_kind(picture: Image.Image, kind: str) -> object:
    if kind == "picture" or picture.mode not in ("L", "RGB", "RGBA", "I;16", "F"):
        return picture
    array = np.array(picture)
    return array if kind == "array" else torch.from_numpy(array if array.ndim == 2 else np.moveaxis(array, 2, 0).copy())


def keyed(picture: Image.Image, transparent: bool) -> Image.Image:
    if transparent and picture.mode == "P":
        picture.info["transparency"] = 0
    return picture


sizes = st.tuples(st.sampled_from(SIDES), st.sampled_from(SIDES))
noise = st.builds(lambda size, sigma: Image.effect_noise(size, sigma), sizes, st.sampled_from([0, 60]))
pictures = st.builds(
    lambda grey, mode, key, orientation: turned(keyed(in_mode(grey, mode), key), orientation),
    noise,
    st.sampled_from(MODES),
    st.booleans(),
    st.sampled_from([1, 1, 3, 6, 9]),
)


def marked(size: tuple[int, int], how: str, mode: str) -> Image.Image:
    mask = Image.new("L", size, 255 if how == "full" else 0)
    box = (0, 0, (size[0] + 1) // 2, size[1]) if how == "half" else (0, 0, 1, 1)
    if how in ("half", "pixel"):
        mask.paste(255, box)
    return in_mode(mask, mode)


masks = st.tuples(
    st.just(None) | sizes, st.sampled_from(["empty", "full", "half", "pixel"]), st.sampled_from(MODES)
)  # None: the picture's own size


@functools.cache
def nano() -> object:
    return load_pipeline(progress=False)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    picture=pictures,
    kind=st.sampled_from(["picture", "array", "tensor"]),
    mask=st.none() | masks,
    restore=st.booleans(),
    realign=st.booleans(),
    policy=st.sampled_from(["flag", "drop"]),
)
def test_any_picture_is_edited_or_refused_in_words(
    picture: Image.Image,
    kind: str,
    mask: tuple[tuple[int, int] | None, str, str] | None,
    restore: bool,
    realign: bool,
    policy: str,
) -> None:
    given = as_kind(picture, kind)
    sideways = given is picture and picture.getexif().get(0x0112) == 6
    size = picture.size[::-1] if sideways else picture.size
    allowed = None if mask is None else marked(mask[0] or size, *mask[1:])
    try:
        edits = diverse_edit(
            given, "add a sticker", 2, pipeline=nano(), steps=1, seed=1, mask=allowed, restore=restore,
            realign=realign, on_unfaithful=policy, progress=False,
        )  # fmt: skip
    except InputError as error:
        event("refused")
        if not re.search(REFUSED, str(error)):
            raise
        return
    for edit in (*edits, *edits.dropped):
        assert edit.image.mode == "RGB" or (restore and edit.image.mode == "RGBA" and read_source(given).layer)
        assert edit.region is not None
        assert edit.region.size == edit.image.size
        if edit.image.size != size:
            assert edit.image.width / edit.image.height == pytest.approx(size[0] / size[1], rel=0.2)
    assert edits.sheet().width > 0


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(picture=pictures, mask=st.none() | masks)
def test_any_picture_is_assessed_or_refused_in_words(
    picture: Image.Image, mask: tuple[tuple[int, int] | None, str, str] | None
) -> None:
    size = picture.size[::-1] if picture.getexif().get(0x0112) == 6 else picture.size
    allowed = None if mask is None else marked(mask[0] or size, *mask[1:])
    try:
        (edit,) = assess(picture, [picture], allowed)
    except InputError as error:
        event("refused")
        if not re.search(REFUSED, str(error)):
            raise
        return
    assert [name for name, verdict in edit.verdicts.items() if verdict.objects] == ["change"]  # nothing was done
    assert edit.lpips == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("size", [(1, 100_000), (100_000, 1), (8, 100_000), (50_000, 2000)])
def test_very_long_pictures_are_refused(size: tuple[int, int]) -> None:
    for attempt in (lambda picture: diverse_edit(picture, "add a sticker"), lambda picture: assess(picture, [picture])):
        with pytest.raises(InputError, match=REFUSED):
            attempt(Image.new("L", size))


def test_a_strip_that_the_mask_leaves_out_is_restored_too() -> None:
    """Also where it is so thin that the model's size does not show it."""
    large = Image.effect_noise((1000, 1000), 60).convert("RGB")
    mask = Image.new("L", large.size, 255)
    mask.paste(0, (500, 0, 505, 1000))
    (edit,) = diverse_edit(
        large, "add a sticker", 1, pipeline=nano(), steps=1, seed=1, mask=mask, restore=True, preserve="off",
        progress=False,
    )  # fmt: skip
    assert edit.image.crop((500, 0, 505, 1000)).tobytes() == large.crop((500, 0, 505, 1000)).tobytes()
    assert edit.image.tobytes() != large.tobytes()


def test_restored_edits_that_do_not_fit_are_refused_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    free = type("Memory", (), {"available": 40 * 100 * 100})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    particles.check_restored(6, (100, 100))
    with pytest.raises(
        InputError, match=r"n is 7, but about 6 edits restored to 100 x 100 pixels.*ask for at most 6, or"
    ):
        particles.check_restored(7, (100, 100))
    with pytest.raises(InputError, match=r"about 0 edits .* are free: make the image smaller, or leave restore out\."):
        particles.check_restored(1, (1000, 100))


BIG = """
import sys
from pathlib import Path
from PIL import Image
from ctxrep_edit import assess, diverse_edit

def peak():  # of this process alone; ru_maxrss may count what its parent had
    return 1024 * int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

small = Image.new("RGB", (64, 64))
diverse_edit(small, "add a sticker", 1, seed=1, steps=1, progress=False).vendi  # loads all there is to load
big, mask = Image.new("RGB", (10_000, 10_000), "teal"), Image.new("L", (10_000, 10_000))
mask.paste(255, (0, 0, 5000, 5000))
before = peak()
assess(big, [big])
print((peak() - before) / 1e8)
found = diverse_edit(big, "add a sticker", 2, seed=1, steps=1, restore=True, mask=mask, progress=False)
assert [edit.image.size for edit in found] == 2 * [big.size]
found.sheet()
found.report(sys.argv[1])
print((peak() - before) / 1e8)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory as Linux states it")
def test_a_hundred_megapixels_take_bounded_memory(tmp_path: Path) -> None:
    command = [sys.executable, "-c", BIG, str(tmp_path / "page.html")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    assessing, restoring = map(float, ran.stdout.split())  # bytes a pixel, beside picture and mask
    assert assessing < 10  # one picture as it is read, 4, and what checks take at 768 pixels
    assert restoring < 5 + 2 * BYTES_KEPT + BYTES_AT_WORK  # both as they are read, two edits, and the work on one
