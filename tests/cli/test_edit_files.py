"""Where the command line puts its files, and what it leaves alone: the picture, earlier sets, and nothing hidden."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import Result
from command_line import call
from PIL import Image

from ctxrep_edit import EditSet

QUIET = ("--no-check", "--no-progress", "-n", 1)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def edit(picture: Path, folder: Path, out: Path, *options: object) -> Result:
    return call(picture, "change the light", "--model", folder, "-o", out, *QUIET, *options)


def test_an_edit_of_an_edit_leaves_it_alone(photo: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert edit(photo, folder, out).exit_code == 0
    before = content(out)
    for number, options in ((2, []), (3, ["--force"])):
        result = edit(out / "edit-1.png", folder, out, *options)
        assert result.exit_code == 0, result.output
        assert f"Look at {out / str(number) / 'sheet.png'}" in result.stdout
        assert f"written into {out / str(number)}" in result.stderr
        assert {name: data for name, data in content(out).items() if "/" not in name} == before


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_link_to_the_picture_is_not_written_over(photo: Path, folder: Path, tmp_path: Path, link) -> None:
    out = tmp_path / "out"
    out.mkdir()
    link(photo, out / "sheet.png")
    before = photo.read_bytes()
    for number, options in ((2, ["--compare"]), (3, ["--force"])):
        result = edit(photo, folder, out, *options)
        assert f"Look at {out / str(number) / 'sheet.png'}" in result.stdout, result.output
        assert photo.read_bytes() == (out / "sheet.png").read_bytes() == before


def test_a_mask_is_not_written_over(photo: Path, folder: Path, picture: Image.Image, tmp_path: Path) -> None:
    mask = tmp_path / "edit-1.png"
    Image.new("L", picture.size, 255).save(mask)
    before = mask.read_bytes()
    assert f"written into {tmp_path / '2'}" in edit(photo, folder, tmp_path, "--mask", mask, "--force").stderr
    assert mask.read_bytes() == before


def test_a_second_run_leaves_the_first_one(photo: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = json.loads(edit(photo, folder, out, "-n", 2, "--json").stdout)
    before = content(out)
    second = json.loads(edit(photo, folder, out, "--json").stdout)
    assert (first["folder"], second["folder"]) == (str(out), str(out / "2"))
    assert content(out) == {**before, **{f"2/{name}": data for name, data in content(out / "2").items()}}
    assert EditSet.load(out / "2")[0].seed == second["edits"][0]["seed"]
    result = edit(photo, folder, out, "--force")
    assert f"Look at {out / 'sheet.png'}" in result.stdout
    assert result.stderr == ""
    assert not (out / "edit-2.png").exists()
    assert edit(photo, folder, out, "--compare").exit_code == 0
    assert sorted(path.name for path in (out / "3").iterdir()) == ["diverse", "plain", "sheet.png"]


def test_raise_saves_the_good_ones(photo: Path, folder: Path, tmp_path: Path, registered) -> None:
    from plugging import Even

    registered(ctxrep_checks=lambda: [Even()])
    options = ["--model", folder, "-n", 3, "--no-progress", "--check", "even", "--on-unfaithful", "raise"]
    out = tmp_path / "out"
    result = call(photo, "change the light", *options, "-o", out)
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: Not all edits kept what they should: diverse, edit 2. The other 2 are in {out}. --on-unfaithful retry "
        "makes such edits again, --mask says where the edit is allowed.\n"
    )
    assert "edit 2: 1 is odd" in result.stdout
    assert {"edit-1.png", "edit-3.png"} <= set(content(out))
    assert "edit-2.png" not in content(out)
    result = call(photo, "change the light", *options, "-o", out, "--compare", "--json")
    assert result.exit_code == 1
    assert "plain, edit 2; diverse, edit 2. The other 4 are in" in result.stderr
    assert [entry["index"] for entry in json.loads(result.stdout)["plain"]["dropped"]] == [1]


@pytest.mark.parametrize("policy", ["drop", "raise"])
def test_a_set_of_which_nothing_is_kept(photo: Path, folder: Path, tmp_path: Path, policy: str) -> None:
    """The model has random weights, so no edit keeps the edges of its source."""
    options = ["--model", folder, "-n", 1, "--no-progress", "--check", "preservation", "--on-unfaithful", policy]
    options += ["--seed", 5]
    result = call(photo, "change the light", *options, "--json", "-o", tmp_path / "out")
    assert result.exit_code == (policy == "raise")
    stated = json.loads(result.stdout)
    assert (stated["edits"], len(stated["dropped"]), stated["vendi"]) == ([], 1, None)
    result = call(photo, "change the light", *options, "-o", tmp_path / "out")
    assert result.stdout.count("dropped") == 1
    assert "The other" not in result.stderr


SAVING = """
import sys, time, types
from pathlib import Path
import ctxrep_edit as c
from ctxrep_edit.cli import main
class Slow(c.Exporter):
    name, summary = "slow", "never done"
    def export(self, edits, folder):
        Path(sys.argv[1], "ready").write_text("")
        time.sleep(60)
c.register(types.SimpleNamespace(ctxrep_exporters=c.hookimpl(lambda: [Slow()])), "slow")
main(sys.argv[2:])
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_terminated_process_leaves_nothing_hidden(
    photo: Path, folder: Path, tmp_path: Path, number: signal.Signals
) -> None:
    arguments = [photo, "change the light", "--model", folder, "-o", tmp_path / "out", "--export", "slow", *QUIET]
    command = [sys.executable, "-c", SAVING, *map(str, [tmp_path, *arguments])]
    usual = lambda: signal.signal(number, signal.SIG_DFL)  # noqa: E731 (under nohup it would be ignored)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=usual)
    until = time.monotonic() + 120
    while not (tmp_path / "ready").exists() and time.monotonic() < until and process.poll() is None:
        time.sleep(0.05)
    assert [path.name[:8] for path in (tmp_path / "out").iterdir()] == [".ctxrep-"]
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in errors
    assert not list((tmp_path / "out").iterdir())


def test_the_process_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    import warnings

    from command_line import start

    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP), warnings.formatwarning
    start("models")
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP), warnings.formatwarning) == before
