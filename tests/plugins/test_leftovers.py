"""Broken distributions beside us, as real folders on the path: an unrelated one does not matter, one that names a
plugin of ours costs that plugin and says which folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

COMMAND = "import sys; from ctxrep_edit.cli import main; main(sys.argv[1:])"
PLUGIN = """
from ctxrep_edit import Strategy, hookimpl
class Apart(Strategy):
    name = "apart"
    summary = "nothing"
    def sample(self, run): return run.call()
@hookimpl
def ctxrep_strategies(): return [Apart()]
"""


def install(folder: Path, name: str, entry_points: bytes | None, metadata: str | None = None) -> Path:
    """A distribution in `folder`, as far as its files are given."""
    made = folder / f"{name}.dist-info"
    made.mkdir()
    if entry_points is not None:
        (made / "entry_points.txt").write_bytes(entry_points)
    if metadata is not None:
        (made / "METADATA").write_text(metadata, "utf-8")
    return made


def stated(name: str, version: str = "1.2") -> str:
    return f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line with `folder` first on the path."""
    (folder / "ctxrep_apart.py").write_text(PLUGIN, "utf-8")
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": path, **environment},
    )  # fmt: skip


def listed(folder: Path) -> tuple[dict[str, dict[str, Any]], str]:
    """What `plugins --json` prints, by plugin, and what went to stderr."""
    done = run(folder, "plugins", "--json")
    assert done.returncode == 0, done.stderr
    return {entry["name"]: entry for entry in json.loads(done.stdout)["plugins"]}, done.stderr


@pytest.mark.parametrize(
    ("name", "entry_points"),
    [
        ("old-0.9", None),
        ("", None),
        ("old-0.9", b"[console_scripts]\nold = old:main\n"),
        ("other-1.0", b"[console_scripts]\nfoo"),
        ("other-1.0", b"foo\n[console_scripts\n= =\n"),
        ("other-1.0", b"[console_scripts]\n\xff = \xfe\n"),
    ],
)
def test_an_unrelated_distribution_does_not_matter(tmp_path: Path, name: str, entry_points: bytes | None) -> None:
    install(tmp_path, name, entry_points, stated("other") if name.startswith("other") else None)
    shown, said = listed(tmp_path)
    assert "Warning" not in said
    assert {entry["status"] for entry in shown.values()} == {"ok"}
    assert {"flux_kontext", "sd3", "standard"} <= set(shown)


def test_a_leftover_that_names_a_plugin_is_left_out_and_told_apart_from_one_in_code(tmp_path: Path) -> None:
    install(tmp_path, "old-0.9", b"[ctxrep_edit]\napart = ctxrep_apart\n")
    shown, said = listed(tmp_path)
    assert shown["apart"]["status"] == "broken"
    assert (
        f"Warning: The plugin apart (old 0.9) is left out. {tmp_path}/old-0.9.dist-info states no name or version, as "
        "a rest of an uninstalled package does: delete that folder. Update or uninstall it, or switch it off with "
        "CTXREP_EDIT_PLUGINS=-apart."
    ) in " ".join(said.split())
    assert "unregister" not in said
    assert shown["standard"]["status"] == "ok"
    off = run(tmp_path, "plugins", CTXREP_EDIT_PLUGINS="-apart")
    assert (off.returncode, "Warning" in off.stderr) == (0, False)


@pytest.mark.parametrize(
    ("line", "name"), [("apart", "apart"), ("apart =", "apart"), ("apart = a b c", "apart"), ("= x", "= x")]
)
def test_a_line_of_ours_that_cannot_be_read(tmp_path: Path, line: str, name: str) -> None:
    lines = f"# comment\n[ctxrep_edit]\n{line}\nfine = ctxrep_apart\n"
    install(tmp_path, "theirs-1.2", lines.encode(), stated("theirs"))
    shown, said = listed(tmp_path)
    assert (shown[name]["status"], shown["fine"]["status"], shown["standard"]["status"]) == ("broken", "ok", "ok")
    assert f"Its entry_points.txt says {line!r}, but must say name = module." in " ".join(said.split())


def test_a_plugin_beside_bytes_that_are_no_text(tmp_path: Path) -> None:
    install(tmp_path, "theirs-1.2", b"[ctxrep_edit]\nfine = ctxrep_apart\n[x]\n\xff = a\n", stated("theirs"))
    shown, _ = listed(tmp_path)
    assert (shown["fine"]["status"], shown["fine"]["distribution"]) == ("ok", "theirs")


def test_of_two_of_one_name_the_first_on_the_path_counts(tmp_path: Path) -> None:
    install(tmp_path, "Ctxrep_Edit-9.9", b"[ctxrep_edit]\nfine = ctxrep_apart\n", stated("ctxrep-edit", "9.9"))
    shown, _ = listed(tmp_path)
    assert set(shown) == {"fine"}
    assert shown["fine"]["version"] == "9.9"


def test_a_leftover_of_ours_does_not_hide_us(tmp_path: Path) -> None:
    install(tmp_path, "ctxrep_edit-0.0.9", None)
    install(tmp_path, "ctxrep_edit-0.0.8", b"[ctxrep_edit]\napart = ctxrep_apart\n")
    shown, said = listed(tmp_path)
    assert ("standard" in shown, "apart" in shown, "Warning" in said) == (True, False, False)


def test_the_command_line_starts_fast_beside_many(tmp_path: Path) -> None:
    for i in range(300):
        install(tmp_path, f"other{i}-1.0", b"[console_scripts]\na = b:c\n", stated(f"other{i}"))
    code = (
        "import time; began = time.perf_counter(); from ctxrep_edit.plugins.discovery import offers; offers()\n"
        "assert time.perf_counter() - began < 0.5"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": path})
