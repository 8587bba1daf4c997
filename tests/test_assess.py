"""Scoring of any pictures, and the page that shows a set."""

import json
import os
import re
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import numpy as np
import profiles
import pytest
import skimage.data
from command_line import call
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from pictures import encoded
from PIL import Image, ImageDraw
from profiles import in_p3

from ctxrep_edit import EditSet, InputError, OutputError, assess, diverse_edit
from ctxrep_edit.faithfulness.given import LONGEST, SHORTEST
from ctxrep_edit.faithfulness.judgement import DEFAULT_CHECKS

PHOTO = Image.fromarray(skimage.data.astronaut()).resize((128, 128))
BOX = (8, 8, 48, 56)


def with_box(colour: str = "red") -> Image.Image:
    edit = PHOTO.copy()
    ImageDraw.Draw(edit).rectangle((*BOX[:2], BOX[2] - 1, BOX[3] - 1), fill=colour)
    return edit


@pytest.fixture(scope="module")
def edits() -> EditSet:
    cast = Image.fromarray(np.asarray(with_box(), int).__add__((28, 0, -28)).clip(0, 255).astype(np.uint8))
    return assess(PHOTO, [with_box(), cast, with_box("blue").resize((256, 256))], instruction="<b>a box</b>")


def test_the_same_colours_in_another_space_are_unchanged() -> None:
    def file(pixels: np.ndarray, profile: bytes) -> bytes:
        return encoded(Image.fromarray(pixels), icc_profile=profile)

    muted = np.asarray(PHOTO) // 2 + 64
    wide, plain = file(in_p3(muted), profiles.rgb()), file(muted, profiles.rgb(profiles.SRGB))
    for source, edit in ((wide, plain), (plain, wide)):
        (entry,) = assess(source, [edit])
        assert [name for name, verdict in entry.verdicts.items() if verdict.objects] == ["change"]  # nothing was done
        assert entry.lpips < 0.005
        assert entry.verdicts["preservation"].details["measures"]["colour"]["value"] < 0.5


def test_it_scores_pictures_of_anybody(edits: EditSet) -> None:
    assert [entry.faithful for entry in edits] == [True, False, True]
    assert list(edits[0].verdicts) == list(DEFAULT_CHECKS)
    assert not edits[1].verdicts["preservation"].details["measures"]["colour"]["kept"]
    assert edits[1].verdicts["preservation"].word == "damaged"
    assert edits.recipe["size"] == [128, 128]
    assert 1 < edits.vendi < 3
    truth = Image.new("L", PHOTO.size, 0)
    truth.paste(255, BOX)
    for entry in edits:
        assert entry.region is not None
        assert entry.image.size == entry.region.size == PHOTO.size
        found, true = np.asarray(entry.region) > 0, np.asarray(truth) > 0
        assert (found & true).sum() / (found | true).sum() > 0.7


def test_a_mask_in_either_convention() -> None:
    white = Image.new("L", PHOTO.size, 0)
    white.paste(255, (64, 0, 128, 128))
    clear = Image.merge("RGBA", [*PHOTO.split(), white.point(lambda value: 255 - value)])
    for mask in (white, clear, np.asarray(white) > 0):
        (entry,) = assess(PHOTO, [with_box()], mask)
        assert not entry.verdicts["preservation"].kept
        assert entry.verdicts["preservation"].details["region"] == "mask"


@pytest.mark.parametrize(
    ("source", "others", "message"),
    [
        (PHOTO, [], "There is no edit to assess: give at least one picture beside the source."),
        (PHOTO, PHOTO, "edits is a Image, but must be a list of pictures"),
        (PHOTO, "edit.png", "edits is a str, but must be a list of pictures"),
        (PHOTO, np.zeros((3, 128, 128, 3)), "edits is a ndarray, but must be a list of pictures"),
        (PHOTO, [Image.new("RGB", (20, 2000))], "edit 1 is 20 x 2000 pixels, too long and narrow: give a part"),
        (PHOTO, [PHOTO, Image.new("RGB", (1, 1))], "edit 2 is 1 x 1 pixels, too small"),
        (Image.new("RGB", (2000, 20)), [PHOTO], "source is 2000 x 20 pixels, too long and narrow: give a part"),
    ],
)
def test_what_cannot_be_assessed(source: Image.Image, others: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        assess(source, others)


def test_the_page_needs_nothing_else(edits: EditSet, tmp_path: Path) -> None:
    page = edits.report(tmp_path / "deep" / "page.html")
    assert [path.name for path in page.parent.iterdir()] == ["page.html"]
    text = page.read_text("utf-8")
    assert "&lt;b&gt;a box&lt;/b&gt;" in text
    assert "<b>" not in text
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert text.count('class="outline"') == text.count('class="heat"') == text.count('type="range"') == 3
    assert text.count("<tr>") == 1 + 3 * len(DEFAULT_CHECKS)
    assert edits[1].verdicts["preservation"].reason in text
    with pytest.raises(OutputError, match=r"cannot be written: .*Name a file where you may write"):
        edits.report(page / "below.html")


@pytest.mark.skipif(
    shutil.which("chromium") is None,
    reason="the report is looked at in Chromium, which is not here: apt-get install chromium",
)
def test_a_browser_shows_the_page(edits: EditSet, tmp_path: Path) -> None:
    page, shot = edits.report(tmp_path / "page.html"), tmp_path / "shot.png"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1200,900"]
    command = ["chromium", *flags, f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={shot}", page.as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    with Image.open(shot) as picture:
        counted = {colour: count for count, colour in picture.convert("RGB").getcolors(2**24) or []}
    assert counted.get((255, 0, 0), 0) > 1000  # the red boxes
    assert counted.get((255, 45, 149), 0) > 100  # the outlines


def test_the_command(tmp_path: Path) -> None:
    PHOTO.save(tmp_path / "a.png")
    with_box().save(tmp_path / "b.png")
    with_box().resize((256, 256)).save(tmp_path / "large.png")
    files = [str(tmp_path / name) for name in ("a.png", "b.png", "x.json", "x.html")]
    result = call("assess", *files[:2], "-o", files[2], "--html", files[3])
    assert result.exit_code == 0, result.output
    assert "Measured at 128 x 128 pixels. Vendi score 1.00 of 1." in result.stdout
    stated = json.loads(Path(files[2]).read_text())
    assert stated["files"] == [files[1]]
    assert json.loads(call("assess", *files[:2], "--json").stdout) == stated
    assert stated["edits"][0]["verdicts"]["preservation"]["kept"] is True
    assert (stated["edits"][0]["name"], stated["edits"][0]["seed"]) == ("b.png", None)
    page = Path(files[3]).read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert "edit 1, b.png" in page
    assert "b.png" in result.stdout
    assert "seed" not in page + result.stdout
    result = call("assess", *files[:2], tmp_path / "large.png")
    assert "Measured at 128 x 128 pixels, brought there by Lanczos from 256 x 256. Vendi" in result.stdout
    with_box().resize((128, 160)).save(tmp_path / "tall.png")
    result = call("assess", files[0], tmp_path / "tall.png")
    assert "edit 1: the picture was stretched 1.25 times in height" in " ".join(result.stdout.split())
    result = call("assess", *files[:2], "--output", tmp_path / "no" / "x")
    assert result.exit_code == 1
    assert "cannot be written: No such file or directory. Name another file." in result.stderr
    (tmp_path / "link.png").hardlink_to(tmp_path / "b.png")
    for option, name in (("--output", "a.png"), ("--html", "link.png"), ("--output", "b.png")):
        before = (tmp_path / name).read_bytes()
        result = call("assess", *files[:2], option, tmp_path / name)
        assert result.exit_code == 1
        assert "which is to be assessed: name another file." in result.stderr
        assert (tmp_path / name).read_bytes() == before


def test_what_is_written_replaces_no_other_picture_and_not_each_other(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "keep.png"):
        PHOTO.save(tmp_path / name)
    (tmp_path / "link.htm").symlink_to(tmp_path / "x.html")
    before = sorted((path.name, path.is_file() and path.read_bytes()) for path in tmp_path.iterdir())
    for names, why in [
        ({"--html": "keep.png"}, "but a page is written there: name a file.html."),
        ({"--html": "page"}, "but a page is written there: name a file.html."),
        ({"--output": "keep.png"}, "a name for a picture, but it gets JSON: name a file.json."),
        ({"--output": "x.html", "--html": "x.html"}, "where one would be lost: name two files."),
        ({"--output": "x.html", "--html": "link.htm"}, "where one would be lost: name two files."),
    ]:
        options = [part for option, name in names.items() for part in (option, tmp_path / name)]
        result = call("assess", tmp_path / "a.png", tmp_path / "b.png", *options)
        assert (result.exit_code, why in result.stderr) == (1, True), result.output
    assert sorted((path.name, path.is_file() and path.read_bytes()) for path in tmp_path.iterdir()) == before


def test_a_full_disk_leaves_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    PHOTO.save(tmp_path / "a.png")
    (tmp_path / "x.json").write_text("earlier")
    asked = ["assess", tmp_path / "a.png", tmp_path / "a.png", "--check", "change", "-o", tmp_path / "x.json"]
    original = Path.write_text

    def full(self: Path, text: str, *encoding: str) -> int:
        original(self, text[:10], *encoding)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        result = call(*asked)
    assert (result.exit_code, "cannot be written: No space left on device" in result.stderr) == (1, True)
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "x.json"}
    assert (tmp_path / "x.json").read_text() == "earlier"
    (tmp_path / "link").symlink_to(tmp_path / "x.json")
    assert call(*asked[:-1], tmp_path / "link").exit_code == 0
    assert json.loads((tmp_path / "x.json").read_text())["files"] == [str(tmp_path / "a.png")]
    assert (tmp_path / "link").is_symlink()


def test_what_is_no_file_is_written_into(tmp_path: Path) -> None:
    PHOTO.save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe")
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_text()), daemon=True)
    reader.start()
    asked = ["assess", tmp_path / "a.png", tmp_path / "a.png", "--check", "change", "-o", tmp_path / "pipe"]
    assert call(*asked).exit_code == 0
    reader.join(60)
    assert json.loads(got[0])["edits"]
    assert (tmp_path / "pipe").is_fifo()


def test_a_name_that_is_no_text_is_escaped(tmp_path: Path) -> None:
    PHOTO.save(tmp_path / "a.png")
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/ph\xffoto.png"))
    odd.write_bytes((tmp_path / "a.png").read_bytes())
    assess(PHOTO, [odd], checks=["change"]).report(tmp_path / "page.html")
    assert r"ph\udcffoto.png" in (tmp_path / "page.html").read_text("utf-8")


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        with_box().save(tmp_path / folder / "edit.png")
    paths = [tmp_path / "one" / "edit.png", tmp_path / "two" / "edit.png"]
    found = assess(PHOTO, [*paths, with_box()], checks=["change"])
    assert [entry.label for entry in found] == [*map(str, paths), "edit 3"]
    assert [entry.label for entry in assess(PHOTO, paths[:1], checks=["change"])] == ["edit.png"]
    assert "seed" not in repr(found)


def test_small_edits_are_not_enlarged_to_their_source() -> None:
    source = Image.fromarray(skimage.data.astronaut())
    made = diverse_edit(source, "add a sticker", 4, seed=1, progress=False, preserve="off")
    found = assess(source, made.images)
    assert found.recipe["size"] == [64, 64] == list(made.images[0].size)
    for entry in found:
        assert entry.verdicts["preservation"].details["region"] == "estimated"
        assert np.asarray(entry.region).mean() < 255 / 4
    large = assess(source, [source.resize((300, 300)), *made.images[:1]], checks=["change"])
    assert large.recipe["size"] == [64, 64]  # one size for all


pictures = st.builds(
    lambda mode, w, h, seed: Image.effect_noise((w, h), 40 + seed).convert("RGB").convert(mode),
    st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I", "F"]),
    st.sampled_from([1, 7, 8, 31, 64, 100, 900]),
    st.sampled_from([1, 7, 8, 31, 64, 100, 900]),
    st.integers(0, 40),
)
masks = st.none() | st.builds(
    lambda w, h, value: Image.new("L", (w, h), value),
    st.sampled_from([8, 64, 100, 900]),
    st.sampled_from([8, 64, 100, 900]),
    st.sampled_from([0, 255]),
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(source=pictures, edit=pictures | st.none(), mask=masks)
def test_any_picture_is_scored_or_refused_in_words(
    source: Image.Image, edit: Image.Image | None, mask: Image.Image | None
) -> None:
    """With no edit of its own, the source is its own edit: nothing but that may be found wrong with it."""
    try:
        found = assess(source, [source if edit is None else edit], mask)
    except InputError as error:
        refused = str(error)
        event("refused")
    else:
        refused = ""
    if refused:
        assert re.search(
            r"too small to edit|too long and narrow|another aspect|marks nothing|floats must lie",
            refused,
        )
        return
    width, height = found.recipe["size"]
    assert min(width, height) >= SHORTEST - 1
    assert max(width, height) <= LONGEST + 1
    json.dumps(found.to_dict(), allow_nan=False)
    if edit is None:
        assert [name for name, verdict in found[0].verdicts.items() if verdict.objects] == ["change"]
        assert found[0].lpips == pytest.approx(0, abs=1e-5)
