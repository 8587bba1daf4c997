"""What the command line prints: anybody's text as it stands, names whole, each thing once; and JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from command_line import call
from ctxrep_plugins import bench

from ctxrep_edit import Verdict, cli
from ctxrep_edit.cli.tables import edits_table, objections, terminal
from ctxrep_edit.faithfulness import lpips_weights
from ctxrep_edit.plugins import catalog
from ctxrep_edit.testing import edit_set

MARKUP = "[/b] :cat:"


def printed(**sets) -> str:
    console = terminal()
    with console.capture() as capture:
        console.print(edits_table(sets))
    return "\n".join([capture.get(), *objections(sets)])


def test_a_callers_text_is_no_markup(
    photo: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    options = ["-n", 1, "--model", folder, "--no-progress", "--no-check", "-o", tmp_path / "[red]"]
    result = call(photo, MARKUP, *options)
    assert result.exit_code == 0, result.output
    assert MARKUP in result.stdout
    assert f"Look at {tmp_path / '[red]' / 'sheet.png'}" in result.stdout


def test_nor_is_a_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    verdict = Verdict(False, "[/b] :cat:", 1.0, 0.5, "[/red] is over [b]0.5[/b]")
    edits = edit_set(1)
    edits = replace(edits, instruction="x\x1b[2J\ny", edits=(replace(edits[0], verdicts={"[b]": verdict}),))
    text = printed(one=edits)
    for words in ("[/b] :cat:", "edit 1: [/red] is over [b]0.5[/b]", r"x\x1b[2J\ny"):
        assert words in text
    assert "\x1b" not in text


def test_an_edit_without_a_seed_has_none_to_show() -> None:
    edits = edit_set(2)
    text = printed(one=replace(edits, edits=(edits[0], replace(edits[1], seed=None))))
    (row,) = (line for line in text.splitlines() if line.startswith("│ 2"))
    assert [cell.strip() for cell in row.split("│")][1:3] == ["2", "-"]


def test_a_table_names_what_it_measures_and_says_nothing_twice() -> None:
    edits = edit_set(6)
    lost = [Verdict(False, "PSNR outside the edit", 18.5, 20.0, "the rest is noisy")] * 2
    kept = [entry.verdicts["preservation"] for entry in (edits[0], edits[2])]
    failed = Verdict(False, "nothing", None, None, "not judged")  # type: ignore[arg-type]
    verdicts = [kept[0], lost[0], kept[1], lost[1], kept[1], failed]
    edits = replace(edits, edits=tuple(replace(e, verdicts={"one": v}) for e, v in zip(edits, verdicts, strict=True)))
    text = printed(diverse=edits)
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]
    assert rows[0] == ["1", "7", "kept", "LPIPS outside the edit", "0.012", "0.060"]
    assert rows[1] == ["2", "8", "changed", "PSNR outside the edit", "18.500", "20.000"]
    assert rows[5][2:] == ["changed", "nothing", "-", "-"]
    assert text.count("the rest is noisy") == 1
    assert "edits 2, 4: the rest is noisy" in text
    assert "LPIPS outside the edit is" not in text
    assert "diverse" not in text  # one set needs no name
    both = printed(plain=edits, diverse=replace(edits, edits=edits.edits[:3], dropped=edits.edits[3:]))
    assert "plain, edits 2, 4: the rest is noisy" in both
    assert both.count("dropped") == 2  # one of the three was kept


def test_strength_0_is_plain(photo: Path, folder: Path, tmp_path: Path) -> None:
    options = ["-n", 1, "--model", folder, "--no-progress", "--no-check", "--strength", 0, "-o", tmp_path / "out"]
    text = call(photo, "change the light", *options).stdout
    assert "plain: sampled in" in text
    assert "diverse" not in text


def test_models() -> None:
    text = call("models").stdout
    scopes = ("middle (default)", "paper (default)")
    for word in ("kontext-nano", "sd3-nano", "FluxKontextPipeline", "FluxKontextInpaintPipeline", *scopes):
        assert word in text
    for summary in ("instruction tokens of the double blocks", "instruction and image tokens of the middle half"):
        assert text.count(summary) == (3 if "double" in summary else 2)  # "generated" begins with the same words
    stated = json.loads(call("models", "--json").stdout)
    assert stated["pipelines"]["FluxKontextPipeline"] == "flux-kontext"
    assert stated["default"]["flux-kontext"] == "middle"
    assert set(stated["scopes"]["flux-kontext"]) == set(catalog.pipelines()["FluxKontextPipeline"].scopes)
    models = [model["name"] for model in stated["models"]]
    assert models == ["kontext-nano", "sd3-nano", "sd3-nano-turbo", "qwen-nano"]


@pytest.mark.parametrize(("said", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_plugins_have_colours_where_they_are_wanted(
    said: dict[str, str], coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm-256color", "COLUMNS": "20", **said}.items():
        monkeypatch.setenv(name, value)
    if "NO_COLOR" not in said:
        monkeypatch.delenv("NO_COLOR", raising=False)
    result = CliRunner().invoke(cli.cli, ["plugins"], color=True)
    assert result.exit_code == 0, result.output
    assert ("\x1b" in result.stdout) == coloured
    assert "ok" in result.stdout


@pytest.mark.parametrize("columns", ["20", "60", "80"])
def test_names_are_not_broken(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    text = call("plugins").stdout + call("models").stdout
    names = {name for shelf in catalog.SHELVES for name in shelf.all()}
    for word in (*names, *catalog.pipelines(), "flux_kontext", "ctxrep-edit", "context+single"):
        assert word in text, word
    words = [line for line in text.splitlines() if len(line) > int(columns) and " " in line.strip() and ":" not in line]
    assert not words


def test_json_is_a_flag_everywhere() -> None:
    bench.ctxrep_commands(cli.bench)
    commands = {**cli.cli.commands, **cli.bench.commands}
    flags = {
        name: option.is_flag
        for name, command in commands.items()
        for option in command.params
        if isinstance(option, click.Option) and "--json" in option.opts
    }
    assert set(flags) >= {"edit", "assess", "models", "plugins", "doctor", "spread", "faithful", "cost"}
    assert all(flags.values()), flags


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_what_a_terminal_cannot_show_is_escaped(tmp_path: Path, encoding: str) -> None:
    """A traceback of it would come after the files were written."""
    there = lpips_weights.ensure_weights()
    code = f"from ctxrep_edit.cli import main; main(['weights', '--from', {str(there)!r}])"
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "CTXREP_EDIT_CACHE": str(tmp_path / "caf\udce9")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "caf" in done.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
def test_a_full_disk_is_said() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "ctxrep_edit", "models"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "Error: There is no room for what is printed: No space left on device."
    assert "Traceback" not in done.stderr
