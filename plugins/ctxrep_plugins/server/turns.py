"""Those who wait, in fair turns: with several keys, each has the next turn after the others."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from ctxrep_plugins.server.refusals import Cancelled

Tell = Callable[[Any], None]
OnStep = Callable[[int, int], None]
Work = Callable[[Any, Tell, OnStep], Any]
"""What a worker does: with its pipeline; `tell` sends news to whoever asked, `on_step` raises where nobody waits any
longer. It is pickled, and so is what it tells and returns."""


def nobody(news: Any) -> None:
    """Hears news, and does nothing."""


@dataclass(eq=False)
class Task:
    """Something for a worker to do. key: whose turn it takes; cancelled: whether nobody waits any longer; again:
    whether it is begun anew where it took longer than it may, as it is where its worker ended. done: what came of it.
    """

    work: Work
    tell: Tell
    cancelled: Callable[[], bool]
    key: str | None = None
    again: bool = False
    asked: float = field(default_factory=time.monotonic)
    attempts: int = 0
    done: Future[Any] = field(default_factory=Future)


class Turns:
    """Tasks that wait. Each key has a line of its own; the lines take turns."""

    def __init__(self) -> None:
        self._lines: dict[str | None, deque[Task]] = {}  # the next line is the first
        self._change = threading.Condition()
        self.closed = False

    def put(self, task: Task, *, first: bool = False) -> None:
        """first: of a task that had its turn, and lost it."""
        with self._change:
            line = self._lines.pop(task.key, None) if first else self._lines.get(task.key)
            if line is None:
                line = deque()
            (line.appendleft if first else line.append)(task)
            self._lines = {task.key: line, **self._lines} if first else {**self._lines, task.key: line}
            self._change.notify()

    def take(self, seconds: float) -> Task | None:
        """Whose turn it is; None where nobody came for so long."""
        with self._change:
            self._change.wait_for(lambda: self._lines or self.closed, seconds)
            if not self._lines:
                return None
            key = next(iter(self._lines))
            line = self._lines.pop(key)
            task = line.popleft()
            if line:
                self._lines[key] = line  # behind the others
            return task

    def sweep(self) -> None:
        """Ends those for whom nobody waits any longer."""
        with self._change:
            gone = [task for line in self._lines.values() for task in line if task.cancelled()]
            for task in gone:
                line = self._lines[task.key]
                line.remove(task)
                if not line:
                    del self._lines[task.key]
        for task in gone:
            task.done.set_exception(Cancelled())

    def close(self) -> None:
        """Nobody comes any more."""
        with self._change:
            self.closed = True
            self._change.notify_all()

    @property
    def waiting(self) -> list[Task]:
        with self._change:
            return [task for line in self._lines.values() for task in line]
