"""Jobs that outlive the server: accepted on disk, queued and recovered by DBOS, each ended once."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ctxrep_plugins.server import refusals
from ctxrep_plugins.server.parameters import Keep
from ctxrep_plugins.server.refusals import Refused
from ctxrep_plugins.server.shelf import Shelf, job_of
from dbos import DBOS, DBOSConfig, DBOSContextSetAuth, SetEnqueueOptions, SetWorkflowID, error
from filelock import FileLock, Timeout
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from ctxrep_edit import InputError, encode_json

QUEUE = "ctxrep-edit"
ATTEMPTS = 25
"""How often a job is taken up again after the process was killed, before it counts as failed."""
STATES = {
    "DELAYED": "queued", "ENQUEUED": "queued", "PENDING": "running", "SUCCESS": "completed", "CANCELLED": "cancelled",
}  # fmt: skip
ENDED = ("completed", "failed", "cancelled")
UNDER_WAY = ["ENQUEUED", "PENDING"]

Make = Callable[[str, "str | None"], dict[str, Any]]
"""Makes a job of an owner, and returns what is to be known of it; raises nothing."""

NO_END = Keep()
TIDIED = 600.0
"""Seconds from one look for jobs that are kept no longer to the next."""


class Jobs:
    """The jobs of one folder. make: does one job; at_once: how many of one owner are given to it at a time. most: how
    many may wait or be under way, per_key: of one owner, None: as many. database: URL of the PostgreSQL that holds the
    queue; None: SQLite in the folder. left: is told when a job is cancelled. One a process, as DBOS is.

    The folder is held until `close`. Raises InputError where another process holds it, OutputError where it cannot be
    made.
    """

    def __init__(
        self, state: Path, make: Make, keep: Keep = NO_END, most: int = 1000, *, at_once: int = 1,
        per_key: int | None = None, database: str | None = None, left: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self.shelf = Shelf(state / "jobs")
        self._held = FileLock(state / "lock")
        try:
            self._held.acquire(timeout=0)
        except Timeout:
            raise InputError(f"The folder {state} is in use by another server: name another, or end that.") from None
        self._database, self._make, self._most = database or f"sqlite:///{state / 'jobs.sqlite'}", make, most
        self._keep, self._closed, self._at_once, self._per_key = keep, threading.Event(), at_once, per_key
        self._left = left
        self._lock, self._came = threading.Lock(), 0
        self._under_way = dict[str, threading.Event]()  # set where nobody waits for it any longer
        self.grace = 30.0
        self.ends: float | None = None  # the time at which what is under way is left

    def stop(self) -> None:
        """The end is near: the `grace` seconds of what is under way begin."""
        self.ends = self.ends or time.monotonic() + self.grace

    def open(self) -> None:
        """Takes up what an earlier process left undone. Raises InputError where the database cannot be reached."""
        config: DBOSConfig = {
            "name": "ctxrep-edit", "system_database_url": self._database, "executor_id": "local",
            "application_version": "1", "console_log_level": "CRITICAL",
        }  # fmt: skip
        DBOS(config=config)

        @DBOS.step(name="make")
        def made(name: str) -> dict[str, Any]:
            return self._counted(name)

        @DBOS.workflow(name="job", max_recovery_attempts=ATTEMPTS)
        def job(name: str) -> dict[str, Any]:
            return made(name)

        self._workflow = job
        try:
            DBOS.launch()
        except OperationalError as fault:
            DBOS.destroy(destroy_registry=True)
            self._held.release()
            said = str(fault.orig).splitlines()[0]
            raise InputError(f"The database of the jobs cannot be used: {said}. Start it, or mend its URL.") from None
        self.shelf.sweep(lambda name: DBOS.get_workflow_status(name) is not None)
        left = DBOS.list_workflows(status=UNDER_WAY, load_input=False, load_output=False)
        self._came = max((known.priority or 0 for known in left), default=0)
        DBOS.register_queue(
            QUEUE, partition_worker_concurrency=self._at_once, polling_interval_sec=0.1, on_conflict="always_update"
        )  # a part of it is one owner's, so that nobody waits behind all jobs of another
        threading.Thread(target=self._tidy, name="ctxrep-edit retention", daemon=True).start()

    def close(self) -> None:
        """Waits for the jobs under way while their time lasts. The next process takes up what has not ended."""
        self.stop()
        self._closed.set()
        with self._lock:
            pass  # what is being removed is removed
        left = max(0, int((self.ends or 0) - time.monotonic()))
        DBOS.destroy(destroy_registry=True, workflow_completion_timeout_sec=left if self.running else 0)
        if not self.running:
            self._held.release()

    def accept(
        self, owner: str | None, request: Mapping[str, Any], pictures: Mapping[str, bytes], key: str | None
    ) -> str:
        """The id of the job; when it returns, the job will be done whatever happens to the process.

        key: what the client calls it, so that asking again is no second job. Raises `Refused` where it called another
        request so, and where too many wait.
        """
        digest = _digest(*(part for name in sorted(pictures) for part in (name.encode(), pictures[name])))
        stated = json.loads(encode_json({**request, "owner": owner, "digest": digest}))  # as it is read again
        job = f"job-{secrets.token_hex(12) if key is None else _digest((owner or '').encode(), key.encode())[:24]}"
        with self._lock:
            known = self.shelf.request(job)
            if known is None:
                self._check_room(owner)
                once = {"created": int(time.time()), "seed": secrets.randbelow(2**31)}
                self.shelf.put(job, {**stated, **once}, pictures)
            elif known != {**stated, "created": known["created"], "seed": known["seed"]}:
                raise Refused(
                    "That Idempotency-Key was used for another request: take a new one.", status=409,
                    code="idempotency_key_reused",
                )  # fmt: skip
            self._came += 1  # who comes first is first: the database itself may keep the second alone
            part = SetEnqueueOptions(queue_partition_key=_part(owner), priority=self._came)
            with SetWorkflowID(job), DBOSContextSetAuth(_part(owner), None), part:
                DBOS.enqueue_workflow(QUEUE, self._workflow, job)
        return job

    def waiting(self, user: str | None = None) -> int:
        """How many wait or are under way, counted as far as may wait. user: of one owner's."""
        found = DBOS.list_workflows(
            status=UNDER_WAY, user=user, limit=self._most, load_input=False, load_output=False
        )  # fmt: skip
        return len(found)

    def _check_room(self, owner: str | None) -> None:
        if self._per_key is not None and self.waiting(_part(owner)) >= self._per_key:
            message = f"{self._per_key} jobs of this key wait already: try later."
            raise Refused(message, status=429, code="key_limit", wait=60)
        if self.waiting() >= self._most:
            raise Refused(f"{self._most} jobs wait already: try later.", status=429, code="queue_full", wait=60)

    def find(self, job: str, owner: str | None) -> dict[str, Any] | None:
        """What a job was asked for; None where there is none of that owner."""
        found = self.shelf.request(job) if re.fullmatch(r"job-[0-9a-f]{1,64}", job) else None
        return None if found is None or found["owner"] != owner else found

    def request(self, job: str, owner: str | None) -> dict[str, Any]:
        """What a job was asked for. Raises `Refused` where there is none of that owner."""
        found = self.find(job, owner)
        if found is None:
            raise Refused(f"There is no job {job[:40]!r}.", status=404, code="job_not_found")
        return found

    def about(self, job: str, owner: str | None) -> dict[str, Any]:
        """What a client is told. Raises `Refused` where there is none of that owner."""
        request = self.request(job, owner)
        known = DBOS.get_workflow_status(job)
        state = "queued" if known is None else STATES.get(known.status, "failed")
        said: dict[str, Any] = {"data": None, "set": None, "error": None}
        if state == "running" and not self.shelf.begun(job):  # it waits for a worker
            state = "queued"
        if state == "completed" and known is not None:
            said |= known.output
            state = "failed" if said["error"] else state
        elif state == "failed":
            what = "The server broke off this job too often. Its log says why."
            said["error"] = refusals.body(Refused(what, status=500, code="broken_off"))["error"]
        earlier = said["data"] is None or request.get("more_of")  # those of the set before are not of this job
        finished = len(self.shelf.told(job)) if earlier else len(said["data"])
        return {
            "id": job, "object": "job", "status": state, "created": request["created"], "n": request["n"],
            "more_of": request.get("more_of"), "safety_identifier": request.get("safety_identifier"),
            "finished": finished, **said,
        }  # fmt: skip

    def set_about(self, name: str, owner: str | None, param: str | None = None) -> dict[str, Any]:
        """What a client is told of a set, by its id. param: that names it. Raises `Refused` where there is none of that
        owner, or it is not complete."""
        job = job_of(name)
        if self.find(job, owner) is None:
            raise Refused(f"There is no set {name[:40]!r}.", param, status=404, code="set_not_found")
        about = self.about(job, owner)
        if about["status"] != "completed":
            message = f"The set {name[:40]} is not there: its job is {about['status']}."
            raise Refused(message, param, status=404 if param is None else 409, code="set_incomplete")
        made = {"id": name, "object": "set", "job": job, "created": about["created"], "data": about["data"]}
        return {**about["set"], **made}

    def cancel(self, job: str, owner: str | None) -> dict[str, Any]:
        """A job that has ended stays as it is."""
        if self.about(job, owner)["status"] not in ENDED:
            DBOS.cancel_workflow(job)
            if left := self._under_way.get(job):
                left.set()
                self._left()
        return self.about(job, owner)

    def cancelled(self, job: str) -> bool:
        """Whether nobody waits any longer for a job under way."""
        left = self._under_way.get(job)
        return left is not None and left.is_set()

    @property
    def running(self) -> int:
        """How many are under way."""
        return len(self._under_way)

    def retire(self) -> list[str]:
        """Removes ended jobs that are too old, then the oldest while all of them are too large; which they were."""
        states = ["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]
        found = DBOS.list_workflows(status=states, load_input=False, load_output=False)  # the oldest first
        sizes = {known.workflow_id: self.shelf.size(known.workflow_id) for known in found}
        total, gone = sum(sizes.values()), list[str]()
        for job, size in sizes.items():
            request = self.shelf.request(job)
            age = time.time() - (request["created"] if request else 0)
            old = self._keep.seconds is not None and age > self._keep.seconds
            large = self._keep.bytes is not None and total > self._keep.bytes
            if not (old or large):
                continue
            with self._lock:  # nobody asks for it again meanwhile
                if self._closed.is_set():
                    break
                DBOS.delete_workflow(job)
                self.shelf.remove(job)  # what a killed process leaves is swept by the next
            total -= size
            gone.append(job)
        return gone

    def _tidy(self) -> None:
        while self._keep != NO_END and not self._closed.is_set():
            with suppress(error.DBOSException, SQLAlchemyError, OSError):  # a file or database that is at work
                self.retire()
            self._closed.wait(TIDIED)

    def _counted(self, job: str) -> dict[str, Any]:
        left = self._under_way[job] = threading.Event()
        try:
            request, known = self.shelf.request(job), DBOS.get_workflow_status(job)
            assert request is not None  # it was accepted
            if known is not None and known.status == "CANCELLED":  # before it was known to be under way
                left.set()
            return self._make(job, request["owner"])
        finally:
            del self._under_way[job]


def _part(owner: str | None) -> str:
    return owner or "-"


def _digest(*parts: bytes) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(hashlib.sha256(part).digest())
    return whole.hexdigest()
