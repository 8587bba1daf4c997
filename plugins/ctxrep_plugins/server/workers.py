"""All workers, and who may wait for them."""

from __future__ import annotations

import atexit
import functools
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from ctxrep_plugins.server.refusals import Refused
from ctxrep_plugins.server.turns import Task, Turns
from ctxrep_plugins.server.worker import Worker


class Workers:
    """One worker for each of `devices`, which takes the next turn when it is free.

    load: makes the pipeline on a device; it is pickled. most: requests that may wait beside those under way; per_key:
    requests of one key that may wait or be under way, None: as many as of all. seconds, load_seconds: that a set, and
    loading the model, may take. stage: is told the seconds of each "wait" and "make".
    """

    def __init__(
        self, load: Callable[[str | None], Any], devices: Sequence[str | None], most: int,
        stage: Callable[[str, float], None], log: Any, *, per_key: int | None = None, seconds: float | None = None,
        load_seconds: float | None = None,
    ) -> None:  # fmt: skip
        self.most, self.per_key = most, per_key
        self._told, self._lock = stage, threading.Lock()
        self._turns, self._took = Turns(), 1.0  # seconds, of a set lately
        self._asked = dict[Future[Any], Task]()
        self.all = [
            Worker(i, device, functools.partial(load, device), self._turns, log, self._stage, seconds, load_seconds)
            for i, device in enumerate(devices)
        ]

    def start(self) -> None:
        atexit.register(self.kill)  # before multiprocessing waits for them
        for worker in self.all:
            worker.start()

    @property
    def failed(self) -> Exception | None:
        """Why none of them has ever loaded the model, nor will; None while one has, or may."""
        failures = [worker.failure for worker in self.all]
        return failures[0] if failures and all(failures) else None

    @property
    def ready(self) -> bool:
        """Whether one has loaded the model and is alive."""
        return any(worker.state in ("ready", "busy") for worker in self.all)

    @property
    def loaded(self) -> bool:
        return any(worker.loaded for worker in self.all)

    @property
    def waiting(self) -> int:
        """How many tasks wait or are under way."""
        return len(self._turns.waiting) + sum(worker.task is not None for worker in self.all)

    @property
    def states(self) -> list[Mapping[str, Any]]:
        return [
            {
                "worker": one.number,
                "device": one.device,
                "state": one.state,
                "restarts": max(0, one.starts - 1),
                "problem": one.problem,
            }
            for one in self.all
        ]

    def check_room(self, key: str | None = None) -> None:
        """Raises `Refused` where no more may wait, or no more of that key."""
        if self.failed is not None:
            raise Refused("The model could not be loaded: the server's log says why.", status=503, wait=60)
        asked = [task for task in tuple(self._asked.values()) if not task.cancelled()]
        own = sum(task.key == key for task in asked)
        wait = min(600, max(1, math.ceil(self._took * len(asked) / len(self.all))))
        if self.per_key is not None and own >= self.per_key:
            raise Refused(
                f"{own} requests of this key wait already: try again in about {wait} seconds.", status=429,
                code="key_limit", wait=wait,
            )  # fmt: skip
        if len(asked) >= self.most + len(self.all):
            raise Refused(
                f"{self.most} requests wait already: try again in about {wait} seconds.", status=429,
                code="queue_full", wait=wait,
            )  # fmt: skip

    def submit(self, task: Task, *, always: bool = False) -> None:
        """Raises `Refused` where no more may wait. always: of what waits elsewhere, and comes alone."""
        with self._lock:
            if not always:
                self.check_room(task.key)
                self._asked[task.done] = task
                task.done.add_done_callback(self._asked.pop)  # one that names the task would keep it, and its pictures
            self._turns.put(task)

    def sweep(self) -> None:
        """Ends what waits and nobody waits for any longer. To be called by whoever no longer waits."""
        self._turns.sweep()

    def stop(self) -> None:
        """Ends them when all that waits is done; waits for that."""
        self._turns.close()
        for worker in self.all:
            worker.join()
        atexit.unregister(self.kill)

    def kill(self) -> None:
        """Ends them, whatever is under way."""
        for worker in self.all:
            worker.kill()

    def _stage(self, name: str, seconds: float) -> None:
        self._told(name, seconds)
        if name == "make":
            self._took += 0.3 * (seconds - self._took)
