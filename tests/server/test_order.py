"""Jobs of one key are begun in the order in which they came, also within one second, and after a server's end."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ctxrep_plugins.server.jobs import Jobs
from serving import until

ASKED: dict[str, Any] = {"prompt": "x", "n": 1}


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def database(request: pytest.FixtureRequest) -> Iterator[str | None]:
    if request.param == "SQLite":
        yield None
        return
    if shutil.which("initdb") is None or shutil.which("pg_ctl") is None:
        pytest.skip("Needs PostgreSQL: initdb and pg_ctl.")
    folder = Path("/tmp") / f"ctxrep-postgres-{os.getpid()}"  # where another user may go
    user = "nobody" if os.getuid() == 0 else None  # root may not
    folder.mkdir()
    if user is not None:
        shutil.chown(folder, user)

    def call(*words: str) -> None:
        subprocess.run(words, check=True, user=user, cwd=folder, capture_output=True, timeout=60)

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    try:
        call("initdb", "--pgdata", "data", "--auth", "trust", "--username", "owner")
        call("pg_ctl", "-D", "data", "-l", "log", "-w", "-o", f"-p {port} -k {folder}", "start")
        yield f"postgresql://owner@127.0.0.1:{port}/jobs"
        call("pg_ctl", "-D", "data", "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


def test_first_come_is_first_begun(tmp_path: Path, database: str | None) -> None:
    begun, held = list[str](), threading.Event()

    def make(job: str, owner: str | None) -> dict[str, Any]:
        begun.append(job)
        held.wait(60)
        return {"data": [], "set": {}, "error": None}

    jobs = Jobs(tmp_path, make, database=database)
    jobs.open()
    ids = [jobs.accept(None, ASKED, {}, None) for _ in range(6)]
    until(lambda: begun)
    jobs.grace = 0
    jobs.close()  # as the others, the one under way is left to the next
    held.set()
    until(lambda: not jobs.running)
    jobs._held.release()
    assert begun == ids[:1]

    begun.clear()
    jobs = Jobs(tmp_path, make, database=database)
    jobs.open()
    ids += [jobs.accept(None, ASKED, {}, None) for _ in range(6)]
    until(lambda: all(jobs.about(job, None)["status"] == "completed" for job in ids))
    jobs.close()
    assert begun == ids
