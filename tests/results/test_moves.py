"""A set goes to its place in full or not at all, and what was there is put back."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ctxrep_edit import EditSet, Exporter, OutputError
from ctxrep_edit.results import aside
from ctxrep_edit.results.export import export
from ctxrep_edit.results.places import Numbered
from ctxrep_edit.testing import edit_set


class Thumbs(Exporter):
    name = "thumbs"
    summary = "a file in a folder"

    def export(self, edits: EditSet, folder: Path) -> None:
        (folder / "thumbs").mkdir()
        (folder / "thumbs" / "1.txt").write_text("new")


FORMS = ("png", "json", "sheet", Thumbs())


def content(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def other(n: int) -> EditSet:
    edits = edit_set(n)
    turned = tuple(replace(edit, image=edit.image.transpose(Image.Transpose.ROTATE_180)) for edit in edits)
    return replace(edits, edits=turned, instruction="another")


def test_a_file_in_place_of_a_folder(tmp_path: Path) -> None:
    edit_set(3).save(tmp_path)
    (tmp_path / "thumbs").write_text("mine")
    before = content(tmp_path)
    with pytest.raises(OutputError, match=r"thumbs is a file, but a folder for 1\.txt is to be there: name another"):
        other(2).save(tmp_path, FORMS)
    assert content(tmp_path) == before


def test_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    edit_set(3).save(tmp_path)
    (tmp_path / "thumbs" / "1.txt").mkdir(parents=True)
    before = content(tmp_path)
    with pytest.raises(OutputError, match=r"1\.txt is a folder, but a file is to be written there: name another"):
        other(2).save(tmp_path, FORMS)
    assert content(tmp_path) == before


@pytest.mark.parametrize("cause", [OSError(5, "Input/output error"), KeyboardInterrupt()])
@pytest.mark.parametrize("place", ["over", "numbered"])
def test_wherever_a_move_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cause: BaseException, place: str
) -> None:
    edit_set(3).save(tmp_path, ("png", "json"))
    before, original, failed = content(tmp_path), os.replace, 0

    def save() -> Any:
        if place == "over":
            return other(2).save(tmp_path, FORMS)
        return export({"": other(2)}, tmp_path, FORMS, Numbered())

    for number in range(100):
        left = [number]

        def fails(*paths: Any, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] == -1:
                raise cause
            original(*paths)

        with monkeypatch.context() as patch:
            patch.setattr(aside.os, "replace", fails)
            try:
                save()
                break
            except (OutputError, KeyboardInterrupt):
                failed += 1
        now = content(tmp_path)
        assert {name: data for name, data in now.items() if name != "2"} == before  # an empty folder is none of it
    assert failed == (11 if place == "over" else 6)
    assert EditSet.load(tmp_path if place == "over" else tmp_path / "2").instruction == "another"
    assert (tmp_path / "edit-3.png").exists() == (place == "numbered")


def test_what_vouches_for_the_pictures_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a process that is killed leaves no picture under the verdicts of another."""
    edit_set(3).save(tmp_path)
    original, seen = os.replace, []

    def watched(*paths: Any) -> None:
        seen.append(Path(paths[1]).relative_to(tmp_path).as_posix())
        assert len(seen) == 1 or not (tmp_path / "edits.json").exists()
        original(*paths)

    monkeypatch.setattr(aside.os, "replace", watched)
    other(3).save(tmp_path)
    assert seen[-1] == "edits.json"
