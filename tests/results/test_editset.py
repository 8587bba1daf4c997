"""The result of an edit: a sequence, a picture, files."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import ctxrep_edit
from ctxrep_edit import CtxrepError, Edit, EditSet, InputError, OutputError, Verdict
from ctxrep_edit.imaging import read_source
from ctxrep_edit.results.png import bears_recipe

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
    assert edits[1] in edits
    assert edits.index(edits[2]) == 2
    assert [image.getpixel((0, 0)) for image in edits.images] == [(255, 0, 0), (0, 128, 0), (0, 0, 255)]
    with pytest.raises(IndexError):
        edits[3]


def test_a_slice_is_a_set(edits: EditSet) -> None:
    part = edits[1:3]
    assert isinstance(part, EditSet)
    assert [(entry.index, entry.seed, entry.file) for entry in part] == [(1, 8, "edit-2.png"), (2, 9, "edit-3.png")]
    assert (part.recipe, part.source, part.contextual_vendi) == (edits.recipe, edits.source, edits.contextual_vendi)
    assert edits.vendi != part.vendi == pytest.approx(part[:].vendi)
    assert 1 < part.vendi <= 2
    assert len(repr(part)) < 120
    assert not edits[3:]
    with pytest.raises(InputError, match="holds no edit to compare"):
        _ = edits[3:].vendi


def test_sets_and_edits_are_told_apart_by_identity(edits: EditSet) -> None:
    twin = replace(edits)
    assert len({edits, twin, *edits, *edits[1:]}) == 2 + 3
    assert edits == edits
    assert edits != twin


def test_scores(edits: EditSet) -> None:
    assert [entry.lpips for entry in edits] == [0.012, 0.3, None]
    assert 1 < edits.vendi <= 3
    alike = EditSet("x", edits.source, (edits[0], edits[0]), edits.recipe, None, 0.0)
    assert alike.vendi == pytest.approx(1, abs=1e-6)


def test_save(edits: EditSet, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "out"
    written = edits.save(folder)
    assert [path.name for path in written] == [*pictures(3), "source.png", "sheet.png", "edits.json"]
    assert sorted(folder.iterdir()) == sorted(written)
    stated = json.loads((folder / "edits.json").read_text("utf-8"))
    assert stated == edits.to_dict()
    for entry, path in zip(edits, written, strict=False):
        with Image.open(path) as picture:
            assert picture.tobytes() == entry.image.tobytes()
            recipe = json.loads(picture.text["ctxrep-edit"])
        assert recipe == {"instruction": edits.instruction, **edits.recipe, **entry.to_dict()}
    for name, shown in (("sheet.png", edits.sheet()), ("source.png", edits.source)):
        with Image.open(folder / name) as picture:
            assert picture.tobytes() == shown.tobytes()
    assert [entry["file"] for entry in stated["edits"]] == pictures(3)
    assert edits.save(str(folder)) == written  # again, over the first


def pictures(n: int) -> list[str]:
    return [f"edit-{i + 1}.png" for i in range(n)]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_smaller_set_replaces_a_larger_one(edits: EditSet, tmp_path: Path) -> None:
    edits.save(tmp_path)
    one = EditSet("x", edits.source, (edits[0],), edits.recipe, None, 0.0)
    one.save(tmp_path, ["sheet"])  # the earlier edits.json still holds
    assert names(tmp_path) == [*pictures(3), "edits.json", "sheet.png", "source.png"]
    one.save(tmp_path)
    assert names(tmp_path) == ["edit-1.png", "edits.json", "sheet.png", "source.png"]
    edits[1:].save(tmp_path)  # of which the first is edit-2.png
    one.save(tmp_path)
    assert names(tmp_path) == ["edit-1.png", "edits.json", "sheet.png", "source.png"]


def test_nobody_elses_pictures_are_removed(edits: EditSet, tmp_path: Path) -> None:
    edits.save(tmp_path)
    edits.source.save(tmp_path / "edit-2.png")  # theirs, in place of ours
    (tmp_path / "edit-3.png").rename(tmp_path / "edit-4.png")  # more than edits.json counts
    (tmp_path / "edit-3.png").write_text("no picture")
    one = EditSet("x", edits.source, (edits[0],), edits.recipe, None, 0.0)
    one.save(tmp_path)
    assert names(tmp_path) == [*pictures(4), "edits.json", "sheet.png", "source.png"]
    with pytest.raises(
        OutputError, match=r"edit-2\.png is there already and not of an earlier set, and is not replaced"
    ):
        edits.save(tmp_path)
    for theirs in ("no JSON", "[]", '{"edits": 3}'):
        (tmp_path / "edits.json").write_text(theirs)
        with pytest.raises(OutputError, match=r"edits\.json is there already and not of an earlier set"):
            one.save(tmp_path)
        assert (tmp_path / "edits.json").read_text() == theirs


def test_load_gives_a_saved_set_back(edits: EditSet, tmp_path: Path) -> None:
    unasked = Verdict(None, "edges kept", None, None, "not asked")  # type: ignore[arg-type]
    edits = replace(edits, edits=(*edits[:2], replace(edits[2], verdicts={"structure": unasked})), dropped=(edits[0],))
    edits.save(tmp_path)
    found = EditSet.load(str(tmp_path))
    assert found.to_dict() == {**edits.to_dict(), "dropped": []}
    assert [picture.tobytes() for picture in found.images] == [picture.tobytes() for picture in edits.images]
    assert found.source.tobytes() == edits.source.tobytes()
    assert [entry.verdicts for entry in found] == [entry.verdicts for entry in edits]
    assert found.contextual_vendi == edits.contextual_vendi
    assert found.sheet().tobytes() == edits.sheet().tobytes()
    edits[1:].save(tmp_path / "part")
    assert [entry.index for entry in EditSet.load(tmp_path / "part")] == [1, 2]


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        (lambda folder: (folder / "edits.json").unlink(), "edits.json: No such file or directory"),
        (lambda folder: (folder / "edits.json").write_text("{"), r"edits.json is broken \(Expecting"),
        (lambda folder: (folder / "edits.json").write_text("[]"), "edits.json is broken"),
        (lambda folder: (folder / "edits.json").write_text("{}"), "edits.json states no 'edits'"),
        (lambda folder: (folder / "edit-2.png").unlink(), "edit-2.png does not exist: there is no file"),
        (lambda folder: (folder / "edit-3.png").write_bytes(b"no"), r"edit-3.png \(.*\) is not an image"),
        (lambda folder: (folder / "source.png").unlink(), "source.png does not exist"),
    ],
)
def test_a_set_that_cannot_be_loaded(edits: EditSet, tmp_path: Path, spoil: Any, cause: str) -> None:
    edits.save(tmp_path)
    spoil(tmp_path)
    with pytest.raises(InputError, match=rf"^No set of edits can be read from .*: {cause}.*\. Name a folder that"):
        EditSet.load(tmp_path)


@pytest.mark.parametrize("place", [3, None, b"out", "", "a\0b", ["out"]])
def test_what_is_no_path(edits: EditSet, place: Any) -> None:
    for method, name in ((edits.save, "folder"), (edits.report, "file"), (EditSet.load, "folder")):
        with pytest.raises(InputError) as refused:
            method(place)
        assert str(refused.value) == f"{name} is {place!r}, which is no path: give a string or a Path."


@pytest.mark.parametrize("exporters", ["png", None, 3])
def test_exporters_are_a_list(edits: EditSet, tmp_path: Path, exporters: Any) -> None:
    with pytest.raises(InputError, match=r"^exporters is .*, but must be a list of names or exporters, such as"):
        edits.save(tmp_path, exporters)


def test_credits_are_kept_on_request(edits: EditSet, tmp_path: Path) -> None:
    credited = replace(edits, credits={"artist": "Ana Muñoz", "copyright": "© A. M."})
    for asked, stated in ((True, credited.credits), (False, {})):
        credited.save(tmp_path, keep_credits=asked)
        for file in (*tmp_path.glob("edit-?.png"), tmp_path / "source.png"):
            assert read_source(file).credits == stated
            assert bears_recipe(file)
        assert EditSet.load(tmp_path).credits == stated
    assert "Muñoz" not in (tmp_path / "edits.json").read_text("utf-8")


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
    assert repr(edits[0]) == f"<Edit 1: seed 7, 64 x 48 pixels, kept: {KEPT.reason}>"
    assert repr(edits[2]) == "<Edit 3: seed 9, 64 x 48 pixels>"
    page = edits._repr_html_()
    assert "&lt;b&gt;blue" in page
    assert "data:image/png;base64," in page
    for png in (edits._repr_png_(), edits[0]._repr_png_()):
        with Image.open(io.BytesIO(png)) as picture:
            assert picture.format == "PNG"
