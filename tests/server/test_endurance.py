"""A worker that ends or hangs under a set, and a client that does not read: what those who asked see of it."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import tiny
import works
from ctxrep_plugins.server import guard, making, worker
from ctxrep_plugins.server.jobs import Jobs
from ctxrep_plugins.server.logs import logger
from ctxrep_plugins.server.parameters import Keep
from ctxrep_plugins.server.refusals import Refused
from ctxrep_plugins.server.turns import Task, nobody
from ctxrep_plugins.server.workers import Workers
from serving import Place, until

ASKED: dict[str, Any] = {"prompt": tiny.WORDS, "n": 3}
PLAIN = {"preserve": "off", "batch_size": 1}


def test_a_stream_goes_on_after_its_worker_was_killed(
    place: Place, png: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No seed was given, and yet the edits are of one set: those that were sent, and those that are made anew."""
    monkeypatch.setattr(worker, "BACKOFF", (0.01, 1))
    asked: dict[str, Any] = {"image": ("a.png", png), **ASKED}
    stream = place.client.images.edit(**asked, stream=True, extra_body={**PLAIN, "steps": 30})
    events: list[Any] = [next(stream)]  # type: ignore[call-overload]
    os.kill(place.workers.all[0].pid or 0, signal.SIGKILL)
    events += stream
    assert [event.index for event in events] == [0, 1, 2]
    again = place.client.images.edit(**asked, extra_body={**PLAIN, "steps": 30, "seed": events[0].seed})
    assert [event.b64_json for event in events] == [one.b64_json for one in again.data or ()]
    assert place.get("/readyz").json()["workers"][0]["restarts"] > 0


def test_a_set_that_took_too_long_is_not_asked_for_again(
    place: Place, png: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "make_set", works.late)
    with pytest.raises(openai.InternalServerError) as refused:
        place.client.with_options(max_retries=3).images.edit(image=("a.png", png), prompt=tiny.WORDS, extra_body=PLAIN)
    assert (refused.value.status_code, refused.value.code) == (504, "time_limit")
    assert len([entry for entry in place.logged() if entry["status"] == 504]) == 1


def test_a_client_that_never_reads_is_given_up(place: Place, png: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "UNREAD", 0.5)
    before = place.logged("fault")  # of other tests
    fields = {"prompt": tiny.WORDS, "n": "8", **PLAIN, "batch_size": "1", "stream": "true", "size": "1536x1024"}
    request = httpx2.Request("POST", f"{place.url}/v1/images/edits", data=fields, files={"image": png})
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", int(place.url.rpartition(":")[2])))
        client.sendall(f"POST /v1/images/edits HTTP/1.1\r\n{head}\r\n".encode() + request.read())
        until(lambda: any(entry.get("unread") for entry in place.logged()))
    until(lambda: place.workers.waiting == 0)
    assert place.logged("fault") == before


def test_jobs_of_keys_take_turns(tmp_path: Path) -> None:
    """One key with many does not keep another waiting, and has not more than it may."""
    workers = Workers(works.nothing, [None], 4, lambda name, took: None, logger())
    order = list[str | None]()

    def make(job: str, owner: str | None) -> dict[str, Any]:
        task = Task(works.short, nobody, lambda: False, owner)
        workers.submit(task, always=True)
        task.done.result(60)
        order.append(owner)
        return {"data": [], "set": {}, "error": None}

    jobs = Jobs(tmp_path, make, Keep(), at_once=2, per_key=8)
    workers.start()
    jobs.open()
    try:
        ids = [jobs.accept("a", {"n": 1, "number": i}, {}, None) for i in range(8)]
        with pytest.raises(Refused, match="8 jobs of this key") as refused:
            jobs.accept("a", {"n": 1}, {}, None)
        assert (refused.value.status, refused.value.code, refused.value.wait) == (429, "key_limit", 60)
        ids.append(jobs.accept("b", {"n": 1}, {}, None))
        until(
            lambda: all(
                jobs.about(job, owner)["status"] == "completed" for job, owner in zip(ids, "a" * 8 + "b", strict=True)
            )
        )
        assert order.index("b") < 6
        jobs.accept("a", {"n": 1}, {}, None)
    finally:
        until(lambda: jobs.running == 0)
        jobs.close()
        workers.stop()
