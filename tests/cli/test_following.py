"""What is written by the commands that go on from a set: also of a run that ends too early; and no credits unasked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from command_line import broken_off, call
from ctxrep_plugins.standard import Contextual
from PIL import Image
from plugging import Even
from safetensors import SafetensorError

from ctxrep_edit import EditSet, diverse_edit
from ctxrep_edit.imaging import exif_with, read_source
from ctxrep_edit.results import bank_file
from ctxrep_edit.sampling.steering import Between, Like

BANK = "bank.safetensors"
GO_ON = (["more", "-n", 1], ["like", 1, "-n", 1], ["between", 1, 2, "-n", 2])


@pytest.fixture
def credited(picture: Image.Image, tmp_path: Path) -> Path:
    picture.save(tmp_path / "credited.png", exif=exif_with({"artist": "Ana Lind"}))
    return tmp_path / "credited.png"


def on(command: list[Any], folder: Path, out: Path, *options: Any) -> Any:
    return call(command[0], folder, *command[1:], "--no-progress", "-o", out, *options)


@pytest.mark.parametrize("keep", [False, True])
def test_credits_only_where_they_were_asked_for(credited: Path, folder: Path, tmp_path: Path, keep: bool) -> None:
    out = tmp_path / "out"
    asked = ["-n", 2, "-o", out, "--model", folder, "--no-check", "--no-progress", *["--keep-credits"] * keep]
    assert call(credited, "change the light", *asked).exit_code == 0
    for command in GO_ON:
        result = on(command, out, out / str(command[0]))
        assert result.exit_code == 0, result.output
    for file in (path for path in out.rglob("*") if path.is_file()):
        if file.suffix == ".png" and file.stem != "sheet":
            assert read_source(file).credits == ({"artist": "Ana Lind"} if keep else {}), file
        if file.name == BANK:
            assert (b"Ana Lind" in file.read_bytes()) == keep
        else:
            assert keep or b"Ana Lind" not in file.read_bytes()


def test_a_bank_of_before_that_tells_more_is_not_believed(credited: Path, folder: Path, tmp_path: Path) -> None:
    edits = diverse_edit(credited, "change the light", 2, model=folder, preserve="off", progress=False)
    edits.save(tmp_path / "out")
    bank_file.write_bank(edits, tmp_path / "out" / BANK)  # with the credits
    result = on(["like", 1, "-n", 1], tmp_path / "out", tmp_path / "like")
    assert result.exit_code == 0, result.output
    assert read_source(tmp_path / "like" / "edit-1.png").credits == {}


@pytest.fixture
def batched(photo: Path, folder: Path, tmp_path: Path) -> Path:
    options = {"model": folder, "seed": 0, "preserve": "off", "progress": False, "batch_size": 2}
    diverse_edit(photo, "change the light", 4, **options).save(tmp_path / "set", bank=True)
    return tmp_path / "set"


@pytest.mark.parametrize(
    ("command", "by", "left"),
    [
        (["more", "-n", 4], Contextual, 6),
        (["like", 1, "-n", 4], Like, 2),
        (["between", 1, 2, "-n", 4], Between, 2),
    ],
)
def test_what_is_done_when_a_run_ends_is_written(
    batched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[Any], by: Any, left: int
) -> None:
    broken_off(monkeypatch, by, 2)
    result = on(command, batched, tmp_path / "out")
    assert result.exit_code != 0
    assert f"2 of 4 edits were done; they are in {tmp_path / 'out'}" in result.stderr
    assert len(EditSet.load(tmp_path / "out")) == left
    assert (tmp_path / "out" / BANK).exists()


def test_raise_saves_the_good_ones(photo: Path, folder: Path, tmp_path: Path, registered: Any) -> None:
    registered(ctxrep_checks=lambda: [Even()])
    asked = ["-n", 1, "--model", folder, "--no-progress", "--check", "even", "--on-unfaithful", "raise"]
    assert call(photo, "change the light", *asked, "-o", tmp_path / "set").exit_code == 0
    result = on(["more", "-n", 2], tmp_path / "set", tmp_path / "out")
    assert result.exit_code == 1
    assert "Not all edits kept what they should: diverse, edit 3. The other 2 are in" in result.stderr
    assert len(EditSet.load(tmp_path / "out")) == 2


# A bank that does not fit


@pytest.fixture
def no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(bank_file, "save_file", full)


def test_a_bank_that_nobody_asked_for_is_left_out(photo: Path, folder: Path, tmp_path: Path, no_room: None) -> None:
    asked = [photo, "change the light", "-n", 1, "--model", folder, "--no-check", "--no-progress"]
    result = call(*asked, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("The set was written without its bank, so that no command can go on from it: bank.safe")
    assert "No space left on device" in line
    assert f"Look at {tmp_path / 'out' / 'sheet.png'}" in result.stdout
    assert len(EditSet.load(tmp_path / "out")) == 1
    result = call(*asked, "-o", tmp_path / "asked", "--export", "bank")
    assert result.exit_code == 1
    assert not list((tmp_path / "asked").iterdir())


def test_nor_does_it_cost_what_goes_on(batched: Path, tmp_path: Path, no_room: None) -> None:
    result = on(["more", "-n", 1], batched, tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "The set was written without its bank" in result.stderr
    assert len(EditSet.load(tmp_path / "out")) == 5
