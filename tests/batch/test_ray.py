"""On Ray: the same sets, each once, whatever happens to a worker."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from batching import row
from click.testing import Result

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "batch.py"
Call = Callable[..., Result]


def test_without_ray_the_mend_is_named(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "ray" else there(name, *rest))
    done = call([row()], "--ray", "local")
    assert done.exit_code == 1
    assert "Error: --ray needs ray, which is not installed: pip install 'ctxrep-edit[ray]'." in done.output
    assert "--actors is for --ray" in call([row()], "--actors", "2").output


def test_a_killed_actor_costs_no_row(folder: Path) -> None:
    pytest.importorskip("ray")
    command = [sys.executable, str(SCRIPT), "--rows", "6", "--model", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 rows, each once: True, all made: True" in done.stdout
    assert "pictures the same: 12 of 12" in done.stdout
