"""Jobs of one key are begun in the order in which they came, also within one second, and after a server's end."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from ctxrep_plugins.server.jobs import Jobs
from serving import until

ASKED: dict[str, Any] = {"prompt": "x", "n": 1}


def test_first_come_is_first_begun(tmp_path: Path) -> None:
    begun, held = list[str](), threading.Event()

    def make(job: str, owner: str | None) -> dict[str, Any]:
        begun.append(job)
        held.wait(60)
        return {"data": [], "set": {}, "error": None}

    jobs = Jobs(tmp_path, make)
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
    jobs = Jobs(tmp_path, make)
    jobs.open()
    ids += [jobs.accept(None, ASKED, {}, None) for _ in range(6)]
    until(lambda: all(jobs.about(job, None)["status"] == "completed" for job in ids))
    jobs.close()
    assert begun == ids
