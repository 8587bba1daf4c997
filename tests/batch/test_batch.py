"""A batch is taken up where it was left; a set is complete or not there; a row that fails costs itself alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from batching import results, row
from click.testing import Result
from ctxrep_plugins.batch import making
from ctxrep_plugins.batch.folder import ATTEMPTS, Folder

from ctxrep_edit import EditSet, Strategy

Call = Callable[..., Result]
Write = Callable[..., Path]
TWO = [row(id="one", seed=5), row(id="two", image="b.png", n="", instruction="add a frame")]


def pictures(desk: Path) -> dict[str, bytes]:
    return {
        file.relative_to(desk / "out").as_posix(): file.read_bytes() for file in (desk / "out").glob("*/edit-*.png")
    }


def test_sets_and_results(call: Call, desk: Path) -> None:
    pytest.importorskip("pyarrow")
    from pyarrow import parquet

    done = call(TWO, "-n", "1", "--results", "csv", "--results", "parquet")
    assert done.exit_code == 0, done.output
    assert "2 of 2 rows made, 0 made before, 0 failed" in done.output
    one, two = results(desk)
    assert (one["id"], one["image"], one["seed"], one["n"], one["error"]) == ("one", "a.png", 5, 2, None)
    assert [edit["file"] for edit in one["edits"]] == ["one/edit-1.png", "one/edit-2.png"]
    assert [edit["seed"] for edit in one["edits"]] == [5, 6]
    assert two["n"] == 1
    assert one["total_seconds"] > one["seconds"] > 0
    loaded = EditSet.load(desk / "out" / "one")
    assert len(loaded) == 2
    assert loaded.recipe["size"] == [48, 32]
    flat = parquet.read_table(desk / "out" / "results.parquet").to_pylist()
    assert [(line["id"], line["index"], line["edit_seed"]) for line in flat][:2] == [("one", 0, 5), ("one", 1, 6)]
    assert (desk / "out" / "results.csv").read_text().count("\n") == 4
    before = {name: (desk / "out" / name).stat().st_mtime_ns for name in pictures(desk)}
    # again: only what has changed, whatever the order
    again = call([{**TWO[1], "seed": 9}, TWO[0]], "-n", "1")
    assert "1 of 2 rows made, 1 made before" in again.output
    assert [(one["id"], one["row"]) for one in results(desk)] == [("two", "row 1 (line 2)"), ("one", "row 2 (line 3)")]
    changed = [name for name, then in before.items() if (desk / "out" / name).stat().st_mtime_ns != then]
    assert changed == ["two/edit-1.png"]
    assert sorted(path.name for path in (desk / "out").iterdir() if path.name.startswith(".")) == [".ctxrep-lock"]


def test_what_is_judged_is_in_the_results(call: Call, desk: Path) -> None:
    assert call([row(preserve="", n=2, on_unfaithful="drop")]).exit_code == 0
    (one,) = results(desk)
    for edit in one["edits"] + one["dropped"]:
        assert edit["verdict"]
        assert edit["reason"]
    assert len(one["edits"]) + len(one["dropped"]) == 2
    assert (one["vendi"] is None) == (not one["edits"])


def test_each_edit_is_asked_for_a_value(call: Call, desk: Path) -> None:
    assert "row 1 (line 2), vary: " in call([row(n=2, vary=["red"])]).output
    assert call([row(instruction="add a {} frame", n=2, vary="red,blue")]).exit_code == 0
    (one,) = results(desk)
    assert [edit["value"] for edit in one["edits"]] == ["red", "blue"]


def test_what_the_model_cannot_take_is_said_of_all_rows(call: Call, desk: Path) -> None:
    (desk / "broken.png").write_bytes(b"x")
    rows = [row(), row(scope="nowhere"), row(batch_size=3), row(image="broken.png"), row(height=8, true_cfg_scale=1)]
    done = call(rows)
    assert done.exit_code == 1
    assert "has 3 faults, so nothing was begun" in done.output
    for said in (
        "row 2 (line 3), scope: ", "row 3 (line 4), batch_size: is 3, but must be", "row 4 (line 5), image: ",
    ):  # fmt: skip
        assert said in done.output
    assert not pictures(desk)


class Fragile(Strategy):
    """Fails where strength is 3, while `broken`."""

    name, summary, strength, repels, broken = "fragile", "Of a test.", 1.0, False, True

    def sample(self, run: Any) -> Any:
        if run.settings.strength == 3 and Fragile.broken:
            raise RuntimeError("no luck")
        return run.call()


def test_rows_that_fail(
    call: Call, desk: Path, registered: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    registered(ctxrep_strategies=lambda: [Fragile()])
    rows = [row(id=f"r{i}", strategy="fragile", n=1, strength=3 if i == 1 else 1) for i in range(3)]
    first = call(rows, "--fail-fast")
    assert first.exit_code == 1
    assert "1 of 3 rows made, 0 made before, 1 failed, 1 not begun" in first.output
    second = call(rows)
    assert second.exit_code == 1
    assert "1 of 3 rows made, 1 made before, 1 failed, 0 not begun" in second.output
    assert "row 2 (line 3), r1: RuntimeError: no luck" in second.output
    assert "--retry-failed" in second.output
    assert [one["status"] for one in results(desk)] == ["made", "failed", "made"]
    monkeypatch.setattr(Fragile, "broken", False)
    assert call(rows).exit_code == 1  # it failed before, and is left
    third = call(rows, "--retry-failed")
    assert third.exit_code == 0, third.output
    assert "1 of 3 rows made, 2 made before, 0 failed" in third.output


def test_rows_that_say_the_same_keep_their_ids_when_they_fail(
    call: Call, desk: Path, registered: Callable[..., Any]
) -> None:
    registered(ctxrep_strategies=lambda: [Fragile()])
    rows = [row(id=name, strategy="fragile", n=1, strength=3, seed=5) for name in ("a", "b")]
    assert "2 of 2 rows failed:" in call(rows).output
    again = call(rows).output  # they failed before, and are left
    assert "row 1 (line 2), a: RuntimeError" in again
    assert "row 2 (line 3), b: RuntimeError" in again
    assert [one["id"] for one in results(desk)] == ["a", "b"]


def test_killed_in_the_middle(call: Call, desk: Path, folder: Path, write: Write) -> None:
    rows = [row(id=f"r{i}", n=1) for i in range(12)]
    code = "from ctxrep_edit.cli import main; main()"
    command = ["batch", write(rows), "-o", desk / "out", "--model", folder, "--device", "cpu"]
    process = subprocess.Popen([sys.executable, "-c", code, *map(str, command)])
    end = time.monotonic() + 60
    while not (desk / "out" / "r1" / "row.json").exists():
        assert time.monotonic() < end
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for made in (desk / "out").glob("r*/"):
        if made.is_dir():
            assert len(EditSet.load(made)) == 1
    there = sum((desk / "out" / f"r{i}").exists() for i in range(12))
    assert 1 < there < 12
    (desk / "out" / "r0" / "edit-1.png").unlink()
    done = call(rows)
    assert done.exit_code == 0, done.output
    assert f"{12 - there + 1} of 12 rows made, {there - 1} made before" in done.output
    assert [one["id"] for one in results(desk)] == [f"r{i}" for i in range(12)]
    assert not list((desk / "out").glob(".ctxrep-batch*"))


def test_what_is_not_ours_is_not_replaced(call: Call, desk: Path) -> None:
    (desk / "out" / "one").mkdir(parents=True)
    done = call(TWO)
    assert done.exit_code == 1
    assert "of no batch, and is not replaced" in done.output
    (desk / "out" / "one").rmdir()
    assert "cannot be used" in call(TWO, "-o", str(desk / "a.png")).output
    (desk / "out" / "results.jsonl").write_text("mine")
    assert "results.jsonl is of no batch, and is not replaced" in call(TWO).output
    assert (desk / "out" / "results.jsonl").read_text() == "mine"


def test_a_table_that_cannot_be_written_leaves_nothing_half(call: Call, desk: Path) -> None:
    (desk / "out" / "results.csv").mkdir(parents=True)
    assert (
        "results.csv cannot be written: Is a directory. Name another folder."
        in call([row()], "--results", "csv").output
    )
    assert not list((desk / "out").glob(".*.part"))
    assert len(results(desk)) == 1


def test_one_batch_at_a_time(call: Call, desk: Path) -> None:
    with Folder(desk / "out").locked():
        assert "Another batch is at work" in call(TWO).output
    assert not pictures(desk)


def test_a_row_that_breaks_off_its_workers_is_given_up(
    desk: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ctxrep_plugins.batch import manifest

    (one,) = manifest.read(write([row()]), 2, 0)

    def died(*_: Any) -> Any:
        raise SystemExit

    monkeypatch.setattr(making, "make", died)
    for _ in range(ATTEMPTS):
        with pytest.raises(SystemExit):
            making.make_once(one, None, Folder(desk))
    said = making.make_once(one, None, Folder(desk))
    assert said["error"].startswith(f"Its worker broke off {ATTEMPTS} times")


def test_the_command_starts_without_torch() -> None:
    code = (
        "import sys, click, ctxrep_plugins.batch as b\n"
        "b.ctxrep_commands(click.Group())\n"
        "assert not {'torch', 'ray', 'PIL', 'pyarrow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)
