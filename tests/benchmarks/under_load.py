"""A server that is started, killed and looked at, and those who ask it, for server.py."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx2
import psutil
from PIL import Image
from skimage import data

WORDS = "change the light"
SERVE = [sys.executable, "-c", "from ctxrep_edit.cli import main; main()", "serve"]


def source() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(data.astronaut()).save(stream, "PNG")
    return stream.getvalue()


class Server:
    """One that runs. Its log is `log.txt` in the folder."""

    def __init__(self, folder: Path, *options: str, port: int = 0) -> None:
        self.log = folder / "log.txt"
        self.seen = self.log.stat().st_size if self.log.exists() else 0
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([*SERVE, "--port", str(port), *options], stderr=log)
        while not (ports := [line["port"] for line in self.logged() if line["event"] == "listening"]):
            if self.process.poll() is not None:
                raise SystemExit(self.log.read_text())
            time.sleep(0.05)
        self.port, self.url = ports[0], f"http://127.0.0.1:{ports[0]}"

    def logged(self) -> list[dict[str, Any]]:
        whole = self.log.read_bytes()[self.seen :].decode().splitlines(keepends=True)
        return [json.loads(line) for line in whole if line.startswith("{") and line.endswith("\n")]

    def ready(self) -> Server:
        while httpx2.get(f"{self.url}/readyz").status_code != 200:
            if self.process.poll() is not None:
                raise SystemExit(self.log.read_text())
            time.sleep(0.1)
        return self

    def workers(self) -> list[psutil.Process]:
        found = psutil.Process(self.process.pid).children()
        return [one for one in found if any("spawn_main" in word for word in one.cmdline())]

    def memory(self) -> tuple[int, int]:
        """Resident bytes of the server, and of its workers."""
        return psutil.Process(self.process.pid).memory_info().rss, sum(one.memory_info().rss for one in self.workers())

    def at_rest(self) -> None:
        """Waits until the server does nothing; not its workers."""
        process = psutil.Process(self.process.pid)
        while process.cpu_percent(1.0) > 10:
            pass

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


class Load:
    """Asks for jobs as long as it may, looks after all of them, and sends requests that are waited for."""

    def __init__(self, url: str, steps: int) -> None:
        self.url, self.steps, self.picture = url, steps, source()
        self.jobs, self.ends = dict[str, str](), dict[str, str]()
        self.files = self.answered = 0
        self.enough, self.stopped = threading.Event(), threading.Event()
        self.threads = [
            threading.Thread(target=self._over, args=(work,)) for work in (self._ask, self._look, self._edit)
        ]
        for thread in self.threads:
            thread.start()

    def _over(self, work: Any) -> None:
        i = 0
        while not self.stopped.is_set():
            try:
                i += work(i)
            except httpx2.TransportError:  # it is killed just now
                time.sleep(0.1)

    def fields(self, seed: int) -> dict[str, str]:
        return {"prompt": WORDS, "n": "2", "seed": str(seed), "steps": str(self.steps), "preserve": "off"}

    def _ask(self, i: int) -> bool:
        """Whether the job is accepted. Two have each seed."""
        if self.enough.is_set() or len(self.jobs) - len(self.ends) >= 4:
            time.sleep(0.1)
            return False
        headers, sent = {"idempotency-key": f"order {i}"}, {"image": self.picture}
        answer = httpx2.post(
            f"{self.url}/v1/jobs", data=self.fields(i // 2), files=sent, headers=headers, timeout=60
        )  # fmt: skip
        assert answer.status_code == 202, answer.text
        self.jobs[f"order {i}"] = answer.json()["id"]
        return True

    def _edit(self, i: int) -> bool:
        if self.enough.is_set():
            time.sleep(0.1)
            return False
        answer = httpx2.post(
            f"{self.url}/v1/images/edits", data=self.fields(1000 + i), files={"image": self.picture}, timeout=600
        )
        assert answer.status_code in (200, 503), answer.text
        self.answered += answer.status_code == 200
        return True

    def _look(self, i: int) -> bool:
        for job in list(self.jobs.values()):
            about = httpx2.get(f"{self.url}/v1/jobs/{job}", timeout=60).json()
            for number in range(1, about["finished"] + 1) if job not in self.ends else ():
                file = httpx2.get(f"{self.url}/v1/sets/set-{job[4:]}/files/edit-{number}.png", timeout=60)
                if file.status_code == 200:
                    Image.open(io.BytesIO(file.content)).load()  # raises where it is half written
                    self.files += 1
                else:  # its worker was killed since, and it begins anew
                    assert about["status"] == "running", about
            if about["status"] == "completed" or (about["error"] or {}).get("code") == "worker_ended":
                end = json.dumps(about["data"] or about["error"])
                assert self.ends.setdefault(job, end) == end, "It has ended twice."
            else:
                assert about["status"] in ("queued", "running"), about
                assert job not in self.ends, "It ended, and began anew."
        time.sleep(0.2)
        return True

    def finish(self) -> None:
        """Asks for nothing more, and waits until all jobs have ended."""
        self.enough.set()
        end = time.monotonic() + 300
        while set(self.ends) != set(self.jobs.values()):
            assert time.monotonic() < end, "Not all jobs end."
            assert all(thread.is_alive() for thread in self.threads), "Something was wrong."
            time.sleep(0.2)
