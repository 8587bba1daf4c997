"""kill -9 at any moment: every job that was accepted ends exactly once."""

from __future__ import annotations

import collections
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx2

KILLS = 4


class Killed:
    """A process that serves jobs, its log in a file."""

    def __init__(self, state: Path) -> None:
        script = str(Path(__file__).with_name("job_server.py"))
        with open(state / "log.txt", "ab") as log:
            self.process = subprocess.Popen([sys.executable, script, str(state)], stdout=subprocess.PIPE, stderr=log)
        assert self.process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


def test_every_accepted_job_ends_once(tmp_path: Path, png: bytes) -> None:
    dice, accepted, ends = random.Random(3), list[str](), dict[str, str]()
    for attempt in range(KILLS + 1):
        server = Killed(tmp_path)
        try:
            for i in range(3):
                headers = {"idempotency-key": f"{attempt} {i}"}
                asked = {"data": {"prompt": "x"}, "files": {"image": png}, "headers": headers}
                answers = [httpx2.post(f"{server.url}/v1/jobs", **asked, timeout=30) for _ in range(2)]
                first, second = (answer.json()["id"] for answer in answers)
                assert first == second
                accepted.append(first)
            if attempt < KILLS:
                time.sleep(dice.uniform(0, 0.4))
            else:
                _wait(server.url, accepted, ends)
            for job in accepted:
                _look(server.url, job, ends)
        finally:
            server.kill()
    assert len(set(accepted)) == 3 * (KILLS + 1)
    assert set(ends) == set(accepted)
    begun = collections.Counter((tmp_path / "begun.txt").read_text().split())
    assert set(begun) == set(accepted)
    assert sum(begun.values()) <= len(accepted) + KILLS  # each kill costs an attempt of the job under way, at most
    assert sorted(folder.name for folder in (tmp_path / "jobs").iterdir()) == sorted(accepted)


def _look(url: str, job: str, ends: dict[str, str]) -> bool:
    """Whether it has ended; what has ended stays as it is, made by the one process that ended it."""
    about = httpx2.get(f"{url}/v1/jobs/{job}", timeout=30).json()
    if about["status"] in ("queued", "running"):
        assert job not in ends
        return False
    assert about["status"] == "completed"
    (one,) = about["data"]
    assert one["of"] == job
    assert ends.setdefault(job, one["by"]) == one["by"]
    return True


def _wait(url: str, jobs: list[str], ends: dict[str, str]) -> None:
    end = time.monotonic() + 60
    while not all(_look(url, job, ends) for job in jobs):
        assert time.monotonic() < end, "Not all of them end."
        time.sleep(0.1)
