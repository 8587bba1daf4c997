"""The one thread that works with the pipeline, and those who wait for it."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from ctxrep_plugins.server.refusals import Refused

Work = Callable[[Any], None]
"""What is done with the pipeline. It raises nothing: whoever asked is told."""


class Worker:
    """Loads a pipeline and does one thing at a time with it, in the order in which they came.

    stage: is told the seconds of each "wait" and "make".
    """

    def __init__(self, load: Callable[[], Any], waiting: int, stage: Callable[[str, float], None]) -> None:
        self._load, self._limit, self._stage = load, waiting, stage
        self._queue: queue.SimpleQueue[tuple[Work, float] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting = 0
        self._seconds = 1.0  # that a set took lately
        self._thread = threading.Thread(target=self._work, name="ctxrep-edit worker", daemon=True)
        self.loaded = False
        self.failed: BaseException | None = None

    def start(self) -> None:
        self._thread.start()

    @property
    def ready(self) -> bool:
        return self.loaded and self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """How many wait or are under way."""
        return self._waiting

    def check_room(self) -> None:
        """Raises `Refused` where no more may wait."""
        if self.failed is not None:
            raise Refused("The model could not be loaded: the server's log says why.", status=503, wait=60)
        if self._waiting > self._limit:
            wait = min(600, max(1, math.ceil(self._seconds * self._waiting)))
            raise Refused(
                f"{self._limit} requests wait already: try again in about {wait} seconds.", status=429,
                code="queue_full", wait=wait,
            )  # fmt: skip

    def submit(self, work: Work, *, always: bool = False) -> None:
        """Raises `Refused` where no more may wait. always: of what waits elsewhere, and comes alone."""
        with self._lock:
            if not always:
                self.check_room()
            self._waiting += 1
        self._queue.put((work, time.monotonic()))

    def stop(self) -> None:
        """Ends the thread when all that waits is done; waits for that."""
        self._queue.put(None)
        if self._thread.ident is not None:
            self._thread.join()

    def _work(self) -> None:
        try:
            pipeline = self._load()
        except BaseException as error:  # told by whoever looks at `failed`
            self.failed = error
            return
        self.loaded = True
        while (next_one := self._queue.get()) is not None:
            work, asked = next_one
            begun = time.monotonic()
            self._stage("wait", begun - asked)
            try:
                work(pipeline)
            finally:
                took = time.monotonic() - begun
                self._stage("make", took)
                self._seconds += 0.3 * (took - self._seconds)
                with self._lock:
                    self._waiting -= 1
