"""Where the files of a set go: nothing is lost that is not an earlier set's, and nothing hidden is left."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from ctxrep_edit import EditSet, InputError, OutputError
from ctxrep_edit.results.export import export
from ctxrep_edit.results.places import Numbered
from ctxrep_edit.sampling.provenance import fingerprint
from ctxrep_edit.testing import edit_set

FILES = {"edit-1.png", "edit-2.png", "edit-3.png", "source.png", "sheet.png", "edits.json"}


@pytest.fixture
def edits() -> EditSet:
    return edit_set(checked=False)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def of(edits: EditSet, source: Path) -> EditSet:
    """The same set as one that was made of that file."""
    with Image.open(source) as opened:
        return replace(edits, recipe={**edits.recipe, "source": fingerprint(opened.convert("RGB"))})


def numbered(edits: EditSet, folder: Path, place: Numbered) -> Path:
    export({"": edits}, folder, ["png", "sheet", "json"], place)
    return place.folder


def test_a_new_folder_is_not_named_like_a_picture(edits: EditSet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.PNG', a name for one picture, but .* leave .PNG out"):
        edits.save(tmp_path / "x.PNG")
    assert not [*tmp_path.iterdir()]
    (tmp_path / "taken.png").mkdir()
    edits.save(tmp_path / "taken.png")
    assert {path.name for path in (tmp_path / "taken.png").iterdir()} == FILES


@pytest.mark.parametrize("name", ["edit-2.png", "edit-9.png", "source.png"])
def test_a_set_is_not_saved_over_the_picture_that_was_edited(edits: EditSet, tmp_path: Path, name: str) -> None:
    edits.save(tmp_path)
    if name == "edit-9.png":  # one that would be taken away, as a smaller set has none of its name
        ninth = replace(edits, edits=(*edits, replace(edits[2], index=8, image=Image.new("RGB", (64, 48), "red"))))
        ninth.save(tmp_path)
    before = content(tmp_path)
    others = tuple(replace(entry, image=entry.image.rotate(180)) for entry in edits)
    again = of(replace(edits, edits=others, source=others[0].image), tmp_path / name)
    with pytest.raises(OutputError, match=rf"{name} is the picture that was edited, and is not replaced"):
        again.save(tmp_path)
    assert content(tmp_path) == before


def test_a_report_takes_no_pictures_place(edits: EditSet, tmp_path: Path) -> None:
    edits.save(tmp_path)
    before = content(tmp_path)
    with pytest.raises(OutputError, match=r"edit-1\.png is not named like a report\.html: give it the ending \.html\."):
        edits.report(tmp_path / "edit-1.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "photo", "png")
    with pytest.raises(OutputError, match="photo is the picture that was edited, and is not replaced"):
        of(edits, tmp_path / "photo").report(tmp_path / "photo")
    (tmp_path / "photo").unlink()
    assert content(tmp_path) == before


def test_a_source_that_stays_the_same_is_no_loss(edits: EditSet, tmp_path: Path) -> None:
    made = replace(edits, recipe={**edits.recipe, "source": fingerprint(edits.source)})
    assert made.save(tmp_path) == made.save(tmp_path)


def test_a_taken_folder_gets_a_numbered_one(edits: EditSet, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert numbered(edits, out, Numbered()) == out
    before = content(out)
    (out / "3").write_text("a file")
    for number in (2, 4):
        place = Numbered()
        assert numbered(edits[:1], out, place) == out / str(number)
        assert place.note == f"{out} holds files of these names already"
        assert EditSet.load(out / str(number))[0].seed == edits[0].seed
    assert {name: data for name, data in content(out).items() if "/" not in name and name != "3"} == before
    assert set(before) == FILES
    assert not list(out.rglob(".*"))


def test_by_force_only_an_earlier_set_is_replaced(edits: EditSet, tmp_path: Path) -> None:
    numbered(edits, tmp_path, Numbered())
    assert numbered(edits[:1], tmp_path, Numbered(force=True)) == tmp_path
    assert set(content(tmp_path)) == {"edit-1.png", "source.png", "sheet.png", "edits.json"}
    Image.new("RGB", (9, 9)).save(tmp_path / "edit-2.png")  # somebody else's
    place = Numbered(force=True)
    assert numbered(edits, tmp_path, place) == tmp_path / "2"
    assert place.note == f"{tmp_path / 'edit-2.png'} is there already and not of an earlier set, and is not replaced"


@pytest.mark.parametrize("link", [None, os.symlink, os.link])
def test_not_even_by_force_over_the_picture(edits: EditSet, tmp_path: Path, link) -> None:
    numbered(edits, tmp_path, Numbered())
    picture = tmp_path / "edit-1.png"
    if link is not None:
        picture.rename(tmp_path / "photo.png")
        link(tmp_path / "photo.png", picture)
        picture = tmp_path / "photo.png"
    before = content(tmp_path)
    place = Numbered(force=True, spared=[picture])
    assert numbered(edits[1:], tmp_path, place) == tmp_path / "2"
    assert "is the picture or the mask, and is not replaced" in place.note
    assert {name: data for name, data in content(tmp_path).items() if "/" not in name} == before


def test_two_processes_do_not_take_one_place(edits: EditSet, tmp_path: Path) -> None:
    files = {Path("edit-1.png"): tmp_path / "made.png"}
    assert Numbered()(tmp_path / "out", files) == tmp_path / "out"  # and nothing is moved there yet
    assert Numbered()(tmp_path / "out", files) == tmp_path / "out" / "2"


def test_what_a_killed_process_left_is_cleared_away(edits: EditSet, tmp_path: Path) -> None:
    old, young, theirs = (tmp_path / name for name in (".ctxrep-abcdefgh", ".ctxrep-12345678", ".ctxrep-mine"))
    for folder in (old, young, theirs):
        (folder / "0").mkdir(parents=True)
        (folder / "0" / "edit-1.png").write_bytes(b"half")
    for folder in (old, theirs):
        os.utime(folder, (time.time() - 2 * 24 * 3600,) * 2)
    edits.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {young.name, theirs.name, *FILES}


def test_a_tilde_is_the_home_of_its_user(edits: EditSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    edits.save("~/set")
    assert (tmp_path / "set" / "edits.json").exists()
    assert len(EditSet.load("~/set")) == len(edits)
