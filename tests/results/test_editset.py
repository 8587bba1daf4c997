"""The result of an edit: a sequence, a picture, files."""

import functools
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import ctxrep_edit
from ctxrep_edit import CtxrepError, Edit, EditSet, OutputError, Verdict
from ctxrep_edit.imaging import read_source
from ctxrep_edit.results.png import bears_recipe
from ctxrep_edit.results.sheet import BAD, CELL, GAP, GOOD, LINE, PAPER, Cell, Row, contact_sheet

KEPT = Verdict(True, "LPIPS outside the edit", 0.012, 0.06, "LPIPS outside the edit is 0.012, within 0.060")
LOST = Verdict(False, "LPIPS outside the edit", 0.3, 0.06, "LPIPS outside the edit is 0.300, over 0.060")


@pytest.fixture
def edits() -> EditSet:
    colours = ("red", "green", "blue")
    verdicts = ({"preservation": KEPT}, {"preservation": LOST}, {})
    return EditSet(
        instruction="make it <b>blue</b>",
        source=Image.new("RGB", (64, 48), "grey"),
        edits=tuple(Edit(Image.new("RGB", (64, 48), colours[i]), 7 + i, i, verdicts[i], 1.0) for i in range(3)),
        recipe={"model": "kontext-nano", "size": [64, 48], "repulsion": {"scope": "context", "eta": None}},
        contextual_vendi=(1.1, 2.2),
        seconds=1.23456,
    )


def test_it_is_a_sequence(edits: EditSet) -> None:
    assert len(edits) == 3
    assert [entry.index for entry in edits] == [0, 1, 2]
    assert edits[-1].seed == 9
    assert [entry.seed for entry in edits[1:]] == [8, 9]
    assert edits[1] in edits
    assert edits.index(edits[2]) == 2
    assert [image.getpixel((0, 0)) for image in edits.images] == [(255, 0, 0), (0, 128, 0), (0, 0, 255)]
    with pytest.raises(IndexError):
        edits[3]


def test_scores(edits: EditSet) -> None:
    assert [entry.lpips for entry in edits] == [0.012, 0.3, None]
    assert 1 < edits.vendi <= 3
    alike = EditSet("x", edits.source, (edits[0], edits[0]), edits.recipe, None, 0.0)
    assert alike.vendi == pytest.approx(1, abs=1e-6)


def test_save(edits: EditSet, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "out"
    written = edits.save(folder)
    assert [path.name for path in written] == ["edit-1.png", "edit-2.png", "edit-3.png", "sheet.png", "edits.json"]
    assert sorted(folder.iterdir()) == sorted(written)
    stated = json.loads((folder / "edits.json").read_text("utf-8"))
    assert stated == edits.to_dict()
    for entry, path in zip(edits, written, strict=False):
        with Image.open(path) as picture:
            assert picture.tobytes() == entry.image.tobytes()
            recipe = json.loads(picture.text["ctxrep-edit"])
        assert recipe == {"instruction": edits.instruction, **edits.recipe, **entry.to_dict()}
    with Image.open(folder / "sheet.png") as picture:
        assert picture.tobytes() == edits.sheet().tobytes()
    assert edits.save(str(folder)) == written  # again, over the first


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_smaller_set_replaces_a_larger_one(edits: EditSet, tmp_path: Path) -> None:
    edits.save(tmp_path)
    one = EditSet("x", edits.source, (edits[0],), edits.recipe, None, 0.0)
    one.save(tmp_path, ["sheet"])  # the earlier edits.json still holds
    assert names(tmp_path) == ["edit-1.png", "edit-2.png", "edit-3.png", "edits.json", "sheet.png"]
    one.save(tmp_path)
    assert names(tmp_path) == ["edit-1.png", "edits.json", "sheet.png"]


def test_nobody_elses_pictures_are_removed(edits: EditSet, tmp_path: Path) -> None:
    edits.save(tmp_path)
    edits.source.save(tmp_path / "edit-2.png")  # theirs, in place of ours
    (tmp_path / "edit-3.png").rename(tmp_path / "edit-4.png")  # more than edits.json counts
    (tmp_path / "edit-3.png").write_text("no picture")
    one = EditSet("x", edits.source, (edits[0],), edits.recipe, None, 0.0)
    one.save(tmp_path)
    assert names(tmp_path) == ["edit-1.png", "edit-2.png", "edit-3.png", "edit-4.png", "edits.json", "sheet.png"]
    for theirs in ("no JSON", "[]", '{"edits": 3}'):
        (tmp_path / "edits.json").write_text(theirs)
        one.save(tmp_path)
        assert len(names(tmp_path)) == 6


def test_credits_are_kept_on_request(edits: EditSet, tmp_path: Path) -> None:
    credited = replace(edits, credits={"artist": "Ana Muñoz", "copyright": "© A. M."})
    for asked, stated in ((True, credited.credits), (False, {})):
        credited.save(tmp_path, keep_credits=asked)
        for file in tmp_path.glob("edit-?.png"):
            assert read_source(file).credits == stated
            assert bears_recipe(file)
    assert "Muñoz" not in (tmp_path / "edits.json").read_text("utf-8")


def test_a_sheet_shows_transparency_on_paper() -> None:
    clear = Image.new("RGBA", (CELL, CELL), (255, 0, 0, 0))
    assert contact_sheet([Row("", [Cell(clear, "")])]).getpixel((GAP + 9, GAP + LINE + 20)) == (255, 255, 255)


def test_to_dict_is_json(edits: EditSet) -> None:
    stated = json.loads(json.dumps(edits.to_dict()))
    assert stated["contextual_vendi"] == [1.1, 2.2]
    assert stated["seconds"] == 1.235
    assert [entry["seed"] for entry in stated["edits"]] == [7, 8, 9]
    assert stated["edits"][1]["verdicts"]["preservation"]["kept"] is False
    assert stated["edits"][2]["verdicts"] == {}


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_folder_that_cannot_be_written(edits: EditSet, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(
        OutputError, match=r"cannot be written to .*file.*: .* Name a folder that you may write to"
    ) as caught:
        edits.save(tmp_path / place)
    assert isinstance(caught.value, CtxrepError)
    assert isinstance(caught.value, OSError)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_leaves_nothing_half_written(
    edits: EditSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, count = ctxrep_edit.encode_png, []

    def full(*arguments: Any) -> bytes:
        count.append(1)
        if len(count) == 3:
            raise OSError(28, "No space left on device")
        return original(*arguments)

    edits.save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(ctxrep_edit, "encode_png", full)
    with pytest.raises(OutputError, match="No space left on device"):
        edits.save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_reprs(edits: EditSet) -> None:
    assert repr(edits) == '<EditSet "make it <b>blue</b>": 3 edits, seeds 7-9, 1 of 2 kept the rest, 1.2 s>'.replace(
        '"', "'"
    )
    assert "image=" not in repr(edits[0])
    assert "seed=7" in repr(edits[0])
    page = edits._repr_html_()
    assert "&lt;b&gt;blue" in page
    assert "data:image/png;base64," in page
    for png in (edits._repr_png_(), edits[0]._repr_png_()):
        with Image.open(io.BytesIO(png)) as picture:
            assert picture.format == "PNG"


# Contact sheets


def test_a_sheet_shows_each_picture_with_its_verdict(edits: EditSet) -> None:
    sheet = edits.sheet()
    assert sheet.size == (GAP + 4 * (CELL + GAP), GAP + 2 * LINE + CELL + 2 * GAP)
    centres = [(GAP + CELL // 2 + i * (CELL + GAP), GAP + LINE + 6 + CELL // 2) for i in range(4)]
    assert [sheet.getpixel(centre) for centre in centres] == [(128, 128, 128), (255, 0, 0), (0, 128, 0), (0, 0, 255)]
    captions = [sheet.crop((x - CELL // 2, GAP + LINE + CELL + 8, x + CELL // 2, sheet.height)) for x, _ in centres]
    colours = [{colour for _, colour in caption.getcolors(4096) or ()} for caption in captions]
    rgb = functools.partial(_rgb)
    assert [rgb(GOOD) in found for found in colours] == [False, True, False, False]
    assert [rgb(BAD) in found for found in colours] == [False, False, True, False]


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def test_rows_of_different_length_and_pictures_of_any_shape() -> None:
    wide, tall, large = (Image.new("RGB", size, "black") for size in ((90, 1), (2, 300), (1000, 1000)))
    sheet = contact_sheet([Row("one", [Cell(wide, "")]), Row("two", [Cell(tall, ""), Cell(large, "", True)])])
    assert sheet.width == GAP + 2 * (CELL + GAP)
    assert sheet.getpixel((sheet.width - GAP - CELL // 2, GAP + LINE + CELL // 2)) == _rgb(PAPER)
