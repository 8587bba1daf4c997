"""A server of the page's own, on a free port of this machine, for as long as the page is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ctxrep_plugins.page.api import Api

from ctxrep_edit import ModelError

RUN = "from ctxrep_plugins.page.own_server import follow; follow(); from ctxrep_edit.cli import main; main()"
GRACE = 5
"""Seconds that it may take to end. Its jobs are not kept, so none is waited for."""
SWEEP = "import shutil, sys; shutil.rmtree(sys.argv[1], ignore_errors=True)"


def follow() -> None:
    """Has the server's process end with the page's, however that ends, and take its folder away, the first argument:
    nobody else is left to."""
    threading.Thread(target=_swept, args=(sys.argv.pop(1),), name="ctxrep-edit follower", daemon=True).start()


def _swept(folder: str) -> None:
    sys.stdin.read()  # to the end of the page, which writes nothing
    os.execl(sys.executable, sys.executable, "-c", SWEEP, folder)  # with which the workers end, too


class OwnServer:
    """`ctxrep-edit serve`, as a process below this one. folder: of the page, which goes with it."""

    def __init__(self, model: str, folder: Path) -> None:
        serve = ["serve", "--model", model, "--port", "0", "--state", str(folder / "state")]
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(folder), *serve], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._said: deque[str] = deque(maxlen=20)
        self._port: int | None = None
        self._listening = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def api(self) -> Api:
        """A client of it, once its model is loaded. Raises ModelError, with its words, where it ends before that."""
        self._listening.wait()
        if self._port is None:
            raise self.ended()
        api = Api(f"http://127.0.0.1:{self._port}", proxies=False)
        while not api.ready():
            self.check()
            time.sleep(0.1)
        return api

    def check(self) -> None:
        """Raises ModelError where it has ended."""
        if self.process.poll() is not None:
            raise self.ended()

    def ended(self) -> ModelError:
        self.process.wait()
        plain = [line for line in self._said if not line.startswith("{")]
        why = plain[-1].removeprefix("Error: ") if plain else f"Its exit code was {self.process.returncode}."
        return ModelError(f"The server ended. {why}")

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _listen(self) -> None:
        """Reads its log to the end, so that it is never held up."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._said.append(line.strip())
            if self._port is None:
                self._port = _port(line)
                if self._port is not None:
                    self._listening.set()
        self._listening.set()


def _port(line: str) -> int | None:
    try:
        said = json.loads(line)
    except ValueError:
        return None
    return int(said["port"]) if isinstance(said, dict) and said.get("event") == "listening" else None


@contextmanager
def own_server(model: str, folder: Path) -> Iterator[OwnServer]:
    server = OwnServer(model, folder)
    try:
        yield server
    finally:
        server.stop()
