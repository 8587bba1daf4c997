"""How long jobs are kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from command_line import start
from ctxrep_plugins.server import jobs
from ctxrep_plugins.server.jobs import Jobs
from ctxrep_plugins.server.parameters import Keep
from ctxrep_plugins.server.refusals import Refused
from ctxrep_plugins.server.shelf import Shelf
from serving import until


@contextmanager
def opened(state: Path, keep: Keep, make: Any) -> Iterator[Jobs]:
    made = Jobs(state, make, keep)
    made.open()
    try:
        yield made
    finally:
        made.close()


def done(job: str, owner: str | None) -> dict[str, Any]:
    return {"data": [], "set": {}, "error": None}


def ask(made: Jobs, number: int) -> str:
    return made.accept(None, {"n": 1, "number": number}, {"image": bytes(10_000)}, str(number))


def ended(made: Jobs, *names: str) -> None:
    until(lambda: all(made.about(name, None)["status"] == "completed" for name in names))


def test_the_oldest_go_while_all_are_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "TIDIED", 1000)
    hold = threading.Event()

    def make(job: str, owner: str | None) -> dict[str, Any]:
        made.shelf.begin(job)
        if len(names) == 4:
            hold.wait(30)
        return done(job, owner)

    names: list[str] = []
    with opened(tmp_path, Keep(bytes=25_000), make) as made:
        for number in range(3):
            names.append(ask(made, number))
            ended(made, names[-1])
        names.append("running")
        running = ask(made, 9)
        until(lambda: made.running == 1)
        assert made.retire() == names[:1]
        assert made.retire() == []
        with pytest.raises(Refused, match="no job"):
            made.about(names[0], None)
        ended(made, *names[1:3])
        assert made.about(running, None)["status"] == "running"
        hold.set()
        ended(made, running)
        assert ask(made, 0) == names[0]  # the key is free again
        ended(made, names[0])


def test_what_is_too_old_goes_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "TIDIED", 0.05)
    with opened(tmp_path, Keep(seconds=1.5), done) as made:
        name = ask(made, 1)
        ended(made, name)
        until(lambda: made.shelf.request(name) is None, seconds=10)
        time.sleep(0.1)
        assert not list((tmp_path / "jobs").iterdir())


def test_a_file_that_is_gone_meanwhile_ends_no_retention(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a job that was just cancelled, whose worker renames it."""
    monkeypatch.setattr(jobs, "TIDIED", 0.05)
    looked = list[str]()

    def size(shelf: Shelf, job: str) -> int:
        looked.append(job)
        if len(looked) == 1:
            raise FileNotFoundError(job)
        return real(shelf, job)

    real = Shelf.size
    monkeypatch.setattr(Shelf, "size", size)
    with opened(tmp_path, Keep(seconds=0.5), done) as made:
        name = ask(made, 1)
        until(lambda: made.shelf.request(name) is None, seconds=10)


def test_limits_are_for_jobs() -> None:
    result = start("serve", "--keep-days", "3")
    assert result.exit_code == 1
    assert "are for the jobs in --state" in result.output
