"""One worker: a process with a pipeline, and the thread that gives it one thing after the other and starts it anew."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import psutil
from ctxrep_plugins.server import process
from ctxrep_plugins.server.refusals import Cancelled, Refused
from ctxrep_plugins.server.turns import Task, Turns

from ctxrep_edit import ModelError

ATTEMPTS = 3
"""How often a task is begun: it has failed when its worker ended each time."""
STARTS = 5
"""How often a process is started that never has loaded its model."""
TICK = 0.1
"""Seconds after which is looked whether anybody still waits, and whether the process is alive."""
BACKOFF = 0.5, 60.0
"""Seconds until it is started again, twice as long each time in a row, and at most."""


class Worker:
    """Starts with `start`; takes from `turns` until they are closed and nobody waits.

    seconds, load_seconds: that a task, and loading the model, may take, None: any number. stage: is told the seconds of
    each "wait" and "make".
    """

    def __init__(
        self, number: int, device: str | None, load: process.Load, turns: Turns, log: Any,
        stage: Callable[[str, float], None], seconds: float | None, load_seconds: float | None,
    ) -> None:  # fmt: skip
        self.number, self.device = number, device
        self._load, self._turns, self._log = load, turns, log.bind(worker=number)
        self._stage, self._limit, self._load_limit = stage, seconds, load_seconds
        self._thread = threading.Thread(target=self._run, name=f"ctxrep-edit worker {number}", daemon=True)
        self._lock, self._killed = threading.Lock(), threading.Event()
        self._process: Any = None
        self._sent = self._done = 0
        self.state = "loading"
        """Or "ready", "busy", "restarting", "ended"."""
        self.problem: str | None = None
        """Why the process ended last, or was ended; None where the model has been loaded since."""
        self.failure: Exception | None = None
        """What kept it from ever loading the model, so that it has ended."""
        self.starts, self.loaded = 0, False
        self.busy = 0.0
        self.task: Task | None = None

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        if self._thread.ident is not None:
            self._thread.join()

    def kill(self) -> None:
        """Ends the process whatever it does, for good."""
        with self._lock:
            self._killed.set()
            if self._process is not None:
                self._process.kill()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self._process.is_alive() else None

    @property
    def memory(self) -> int:
        """Resident bytes of the process; 0 where there is none."""
        try:
            return int(psutil.Process(self.pid).memory_info().rss) if self.pid else 0
        except psutil.Error:
            return 0

    def _run(self) -> None:
        """Starts the process, as often as it ends."""
        in_a_row = 0
        while not (self._killed.is_set() or (self._turns.closed and not self._turns.waiting)):
            done, why = self._done, None
            with suppress(EOFError, OSError):  # it is gone
                why = self._live()
            if self.state == "ended" or self._killed.is_set():
                break
            in_a_row = 1 if self._done > done else in_a_row + 1
            self.problem = why or f"Its process ended (exit code {self._process.exitcode})."
            self._log.error("worker ended", restarts=self.starts, problem=self.problem)
            if not self.loaded and in_a_row >= STARTS:
                what = (
                    f"The process on {self.device or 'its device'} was started {STARTS} times and never had the model"
                )
                self.failure = ModelError(f"{what} loaded: is there enough memory? {self.problem}")
                break
            self.state = "restarting"
            self._killed.wait(min(BACKOFF[1], BACKOFF[0] * 2 ** (in_a_row - 1)))
        self.state = "ended"

    def _live(self) -> str | None:
        """From the start of a process to its end, which it says the reason of where it is known."""
        orders, news = self._started()
        try:
            return self._work(orders, news)
        finally:
            self._process.kill()
            self._process.join()
            orders.close()
            news.close()

    def _started(self) -> tuple[Connection, Connection]:
        context = multiprocessing.get_context("spawn")
        theirs, orders = context.Pipe(duplex=False)
        news, their_news = context.Pipe(duplex=False)
        with self._lock:
            if self._killed.is_set():
                raise EOFError
            self._process = context.Process(target=process.main, args=(self.number, self._load, theirs, their_news))
            self._process.start()
        self.starts += 1
        theirs.close()  # so that the end of the process is the end of its pipes
        their_news.close()
        return orders, news

    def _work(self, orders: Connection, news: Connection) -> str | None:
        """Gives the process one task after the other; returns why it must end. Raises EOFError or OSError when it is
        gone."""
        begun = time.monotonic()
        while not news.poll(TICK):
            if self._turns.closed and not self._turns.waiting:
                self.state = "ended"
                return None
            if self._load_limit is not None and time.monotonic() - begun > self._load_limit:
                return f"The model was not loaded within {self._load_limit:g} seconds (--load-limit)."
        kind, what = news.recv()
        if kind == process.RAISED:
            self._log.error("model not loaded", error=type(what).__name__, reason=str(what))
            self.problem = "The model could not be loaded: the server's log says why."
            if not self.loaded:
                self.state, self.failure = "ended", what
            return self.problem
        self.loaded, self.state, self.problem = True, "ready", None
        while self._process.is_alive():
            task = self._turns.take(TICK)
            if task is not None:
                self._do(task, orders, news)
            elif self._turns.closed:
                self.state = "ended"
                return None
        return None

    def _do(self, task: Task, orders: Connection, news: Connection) -> None:
        """One task. Raises EOFError or OSError when the process is gone, or must be."""
        begun = time.monotonic()
        if task.cancelled():
            task.done.set_exception(Cancelled())
            return
        if not task.attempts:
            self._stage("wait", begun - task.asked)
        task.attempts += 1
        self.task, self.state = task, "busy"
        late = threading.Event()
        timer = threading.Timer(self._limit or 0, self._end_late, (late, self._process))
        if self._limit is not None:
            timer.start()
        try:
            self._carry_out(task, orders, news)
            self._done += 1
        except (EOFError, OSError):
            self._lost(task, late.is_set())
            raise
        except Exception as error:  # what cannot be pickled; the process may go on with it
            task.done.set_exception(error)
            raise EOFError from error
        finally:
            timer.cancel()
            took = time.monotonic() - begun
            self.busy += took
            self._stage("make", took)
            self.task = None
        self.state = "ready"

    def _carry_out(self, task: Task, orders: Connection, news: Connection) -> None:
        self._sent += 1
        orders.send((self._sent, task.work))
        told = False
        while True:
            if news.poll(TICK):
                kind, what = news.recv()
                if kind == process.TOLD:
                    task.tell(what)
                elif kind == process.DONE:
                    return task.done.set_result(what)
                else:
                    return task.done.set_exception(what)
            elif task.cancelled() and not told:
                orders.send(self._sent)
                told = True

    @staticmethod
    def _end_late(late: threading.Event, ends: Any) -> None:
        late.set()
        ends.kill()

    def _lost(self, task: Task, late: bool) -> None:
        """The process has ended under it."""
        self._log.error("set broken off", attempt=task.attempts, late=late)
        if self._killed.is_set():
            return  # the server ends; a job is taken up by the next one
        if task.cancelled():
            task.done.set_exception(Cancelled())
        elif task.attempts < ATTEMPTS and (task.again or not late):
            self._turns.put(task, first=True)
        elif late:
            message = f"The set took more than the {self._limit:g} seconds that one may take (--time-limit)."
            task.done.set_exception(Refused(f"{message} Ask for fewer edits or steps.", status=504, code="time_limit"))
        else:
            message = f"The worker ended {task.attempts} times at these edits, most likely for want of memory."
            task.done.set_exception(
                Refused(f"{message} Ask for fewer, or for a smaller batch_size.", status=500, code="worker_ended")
            )
