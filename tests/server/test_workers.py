"""Workers: processes that end, hang and are started again; and whose turn it is."""

from __future__ import annotations

import functools
import gc
import io
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import works
from ctxrep_plugins.server import worker
from ctxrep_plugins.server.logs import logger
from ctxrep_plugins.server.refusals import Refused
from ctxrep_plugins.server.turns import Task, Turns, nobody
from ctxrep_plugins.server.workers import Workers
from serving import until

from ctxrep_edit import InputError, ModelError

Start = Callable[..., Workers]


def never() -> bool:
    return False


def task(work: Any, **options: Any) -> Task:
    return Task(work, options.pop("tell", nobody), options.pop("cancelled", never), **options)


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Workers without a model."""
    monkeypatch.setattr(worker, "BACKOFF", (0.01, 0.1))
    made = list[Workers]()

    def started(count: int = 1, load: Any = works.nothing, **options: Any) -> Workers:
        workers = Workers(load, [None] * count, 4, lambda name, took: None, logger(io.StringIO()), **options)
        made.append(workers)
        workers.start()
        until(lambda: workers.failed or all(one.state == "ready" for one in workers.all))
        return workers

    yield started
    for workers in made:
        workers.kill()
        workers.stop()


def test_a_task_whose_worker_is_killed_is_done_again(start: Start, tmp_path: Path) -> None:
    workers, told = start(), list[int]()
    again = task(functools.partial(works.dies, tmp_path / "one", 2), tell=told.append)
    workers.submit(again)
    assert again.done.result(30) == 3
    assert told == [1, 2, 3]
    hopeless, after = task(functools.partial(works.dies, tmp_path / "two", 9)), task(functools.partial(works.number, 7))
    for one in (hopeless, after):
        workers.submit(one)
    with pytest.raises(Refused, match="ended 3 times") as refused:
        hopeless.done.result(30)
    assert (refused.value.status, refused.value.code) == (500, "worker_ended")
    assert after.done.result(30) == 7
    assert workers.states[0]["restarts"] == 5


def test_one_that_hangs_costs_its_task_and_no_other(start: Start, tmp_path: Path) -> None:
    workers = start(2, seconds=1)
    hung = task(functools.partial(works.hangs, tmp_path / "one", 1))
    job = task(functools.partial(works.hangs, tmp_path / "two", 1), again=True)
    workers.submit(hung)
    until(lambda: (tmp_path / "one").exists())
    done = [task(functools.partial(works.number, i)) for i in range(3)]
    for one in (*done, job):
        workers.submit(one, always=True)
    assert [one.done.result(30) for one in done] == [0, 1, 2]
    assert not hung.done.done()
    with pytest.raises(Refused, match="more than the 1 seconds") as refused:
        hung.done.result(30)
    assert (refused.value.status, refused.value.code) == (504, "time_limit")
    assert job.done.result(30) == 2


def test_a_process_that_is_stopped_cannot_take_a_large_task_for_ever(start: Start) -> None:
    """More than a pipe holds, so that the server waits for it to be read."""
    workers = start(seconds=1)
    os.kill(workers.all[0].pid or 0, signal.SIGSTOP)
    large = task(functools.partial(works.length, bytes(10**6)), again=True)
    workers.submit(large)
    assert large.done.result(30) == 10**6


def test_an_idle_process_that_is_killed_is_started_again(start: Start) -> None:
    workers = start()
    first = workers.all[0].pid
    os.kill(first or 0, signal.SIGKILL)
    until(lambda: workers.ready and workers.all[0].pid not in (first, None))
    for one in (signal.SIGTERM, signal.SIGINT):  # these are meant for the server
        os.kill(workers.all[0].pid or 0, one)
    after = task(functools.partial(works.number, 7))
    workers.submit(after)
    assert after.done.result(30) == 7
    assert workers.states[0]["restarts"] == 1
    assert workers.all[0].memory > 2**20


def test_what_nobody_waits_for_is_ended(start: Start) -> None:
    workers, left = start(), threading.Event()
    running, waiting = (task(works.until_cancelled, cancelled=left.is_set) for _ in range(2))
    for one in (running, waiting):
        workers.submit(one)
    until(lambda: workers.all[0].task is running)
    left.set()
    for one in (running, waiting):
        with pytest.raises(Exception, match="Nobody waits"):
            one.done.result(30)
    assert workers.states[0]["restarts"] == 0


def test_what_is_left_while_it_waits_is_gone_at_once() -> None:
    """With all that it holds, though no worker comes to it, and the others keep their turns."""
    workers, ended = Workers(works.nothing, [None], 2, lambda name, took: None, logger(io.StringIO())), list[str]()
    waiting = task(functools.partial(works.number, 0), key="a")
    workers.submit(waiting)
    for _ in range(50):
        left = threading.Event()
        one = task(functools.partial(works.number, 0), key="a", cancelled=left.is_set)
        one.done.add_done_callback(lambda done: ended.append(str(done.exception())))
        workers.submit(one)
        left.set()
        workers.sweep()
    assert ended == ["Nobody waits for these edits any longer."] * 50
    assert workers.waiting == 1
    assert not waiting.done.done()


def test_an_error_of_a_task_is_no_fault_of_the_worker(start: Start) -> None:
    workers = start()
    for error, words in ((InputError("a scope"), "a scope"), (ZeroDivisionError("secret"), "ZeroDivisionError")):
        wrong = task(functools.partial(works.wrong, error))
        workers.submit(wrong)
        with pytest.raises(Exception, match=words) as raised:
            wrong.done.result(30)
        assert "secret" not in str(raised.value)
    assert workers.states[0] == {
        "worker": 0, "device": None, "state": "ready", "restarts": 0, "problem": None,
    }  # fmt: skip
    unsent, after = task(lambda *_: None), task(functools.partial(works.number, 7))
    for one in (unsent, after):
        workers.submit(one)
    with pytest.raises(Exception, match="pickle"):
        unsent.done.result(30)
    assert after.done.result(30) == 7


def test_a_model_that_cannot_be_loaded(start: Start) -> None:
    workers = start(load=works.no_model)
    assert isinstance(workers.failed, ModelError)
    assert str(workers.failed) == "no such model"
    with pytest.raises(Refused, match="could not be loaded"):
        workers.submit(task(works.until_cancelled))
    said = str(start(load=works.killed).failed)
    assert "started 5 times" in said
    assert "ended (exit code -9)" in said


def test_a_load_that_hangs_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ended and tried again, and whoever looks is told; the other worker goes on."""
    monkeypatch.setattr(worker, "BACKOFF", (0.01, 0.1))
    monkeypatch.setattr(worker, "STARTS", 100)
    hung, log = tmp_path / "hung", io.StringIO()
    hung.touch()
    load, stage = functools.partial(works.hung, hung), lambda name, took: None
    workers = Workers(load, ["first", "second"], 4, stage, logger(log), load_seconds=3)
    workers.start()
    try:
        until(lambda: workers.states[1]["problem"] is not None)
        assert workers.states[1]["problem"] == "The model was not loaded within 3 seconds (--load-limit)."
        assert workers.states[1]["state"] in ("restarting", "loading")
        assert workers.failed is None
        until(lambda: workers.states[0]["state"] == "ready")
        done = task(functools.partial(works.number, 7))
        workers.submit(done)
        assert done.done.result(30) == 7
        hung.unlink()
        until(lambda: workers.states[1]["state"] == "ready")
        assert workers.states[1]["problem"] is None
        assert "--load-limit" in log.getvalue()
    finally:
        workers.kill()
        workers.stop()


def test_what_is_done_is_forgotten(start: Start) -> None:
    """At once, and not when Python looks for circles, as pictures of many requests would pile up until then."""
    workers, one = start(), task(functools.partial(works.length, bytes(10**6)))
    workers.submit(one)
    assert one.done.result(30) == 10**6
    seen = weakref.ref(one)
    gc.disable()
    try:
        del one
        until(lambda: seen() is None, seconds=10)
    finally:
        gc.enable()


def test_keys_take_turns() -> None:
    turns, now = Turns(), functools.partial(task, works.nothing)
    for key, count in (("a", 4), ("b", 2)):
        for _ in range(count):
            turns.put(now(key=key))
    taken = [turns.take(0) for _ in range(2)]
    turns.put(now(key="c"))
    assert taken[0] is not None
    turns.put(taken[0], first=True)
    taken = [turns.take(0) for _ in range(6)]
    assert [one.key for one in taken if one] == ["a", "b", "c", "a", "a", "a"]
    assert turns.take(0.01) is None


def test_one_key_does_not_keep_another_waiting(start: Start) -> None:
    workers, left = start(per_key=3), threading.Event()
    first = task(works.until_cancelled, key="a", cancelled=left.is_set)
    ended = list[str | None]()
    others = [task(functools.partial(works.number, 0), key=key) for key in ("a", "a", "b")]
    for one in (first, *others):
        one.done.add_done_callback(lambda _, one=one: ended.append(one.key))  # type: ignore[misc]
        workers.submit(one)
        until(lambda: workers.all[0].task is first)
    with pytest.raises(Refused, match="3 requests of this key") as refused:
        workers.check_room("a")
    assert (refused.value.status, refused.value.code) == (429, "key_limit")
    assert refused.value.wait
    workers.check_room("b")
    left.set()
    until(lambda: len(ended) == 4)
    assert ended == ["a", "a", "b", "a"]
    workers.check_room("a")


def test_a_worker_ends_with_its_server() -> None:
    """However that ends: nobody is left on the device."""
    code = (
        "import time, works\n"
        "from ctxrep_plugins.server.logs import logger\n"
        "from ctxrep_plugins.server.workers import Workers\n"
        "workers = Workers(works.nothing, [None], 4, lambda name, took: None, logger())\n"
        "workers.start()\n"
        "while not workers.ready: time.sleep(0.01)\n"
        "print(workers.all[0].pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    paths = os.pathsep.join([str(Path(works.__file__).parent), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths}
    )
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    process.kill()
    process.communicate()
    until(lambda: not _alive(pid), seconds=10)


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
