"""A server on a free port of this machine, in a thread of the tests' process."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import openai
from ctxrep_plugins.server.logs import logger
from ctxrep_plugins.server.parameters import Limits
from ctxrep_plugins.server.running import server
from PIL import Image


@dataclass
class Place:
    """Where a server is, and what it logs. client: the stock one, which does not try again."""

    url: str
    workers: Any
    log: io.StringIO
    key: str = "none"
    client: openai.OpenAI = field(init=False)

    def __post_init__(self) -> None:
        self.client = openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.key, max_retries=0, timeout=300)

    def get(self, path: str, **options: Any) -> httpx2.Response:
        return httpx2.get(self.url + path, **options)

    def logged(self, event: str = "request") -> list[dict[str, Any]]:
        entries = [json.loads(line) for line in self.log.getvalue().splitlines()]
        return [entry for entry in entries if entry["event"] == event]


@contextmanager
def serving(
    folder: Path, keys: Mapping[str, str] | None = None, limits: Limits | None = None, queue: int = 8, **options: Any
) -> Iterator[Place]:
    log = io.StringIO()
    options = {"devices": ("cpu",), **options, "model": str(folder), "queue": queue, "log": logger(log)}
    made = server("127.0.0.1", 0, keys, limits or Limits(), **options)
    thread = threading.Thread(target=made.run, name="server")
    made.service.workers.start()
    thread.start()
    try:
        until(lambda: made.started and made.service.workers.ready, seconds=300)
        port = made.servers[0].sockets[0].getsockname()[1]
        yield Place(f"http://127.0.0.1:{port}", made.service.workers, log)
    finally:
        made.should_exit = True
        thread.join(30)
        made.service.workers.stop()
        assert not thread.is_alive()


def until(true: Any, seconds: float = 60) -> None:
    """Waits until something is so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "It never came to be so."
        time.sleep(0.01)


def encoded(image: Image.Image, form: str = "PNG") -> bytes:
    stream = io.BytesIO()
    image.save(stream, form)
    return stream.getvalue()
