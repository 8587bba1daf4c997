"""From the options of the command to a server that runs."""

from __future__ import annotations

import functools
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from ctxrep_plugins.server.app import Service, application
from ctxrep_plugins.server.guard import Guard
from ctxrep_plugins.server.logs import logger, told_by_libraries
from ctxrep_plugins.server.metrics import Metrics
from ctxrep_plugins.server.parameters import Keep, Limits
from ctxrep_plugins.server.process import load
from ctxrep_plugins.server.warned import told
from ctxrep_plugins.server.workers import Workers

if TYPE_CHECKING:
    from ctxrep_plugins.server.jobs import Jobs

GRACE = 30
"""Seconds that requests and jobs under way may take to end when the server is stopped."""


class Server(uvicorn.Server):
    """Says where it listens, and ends when the model cannot be loaded."""

    def __init__(self, config: uvicorn.Config, service: Service, jobs: Jobs | None) -> None:
        super().__init__(config)
        self.service, self.jobs = service, jobs

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        for place in (socket.getsockname() for server in self.servers for socket in server.sockets):
            self.service.log.info("listening", host=place[0], port=place[1], model=self.service.model)

    async def shutdown(self, sockets: Any = None) -> None:
        if self.jobs is not None:
            self.jobs.stop()
        await super().shutdown(sockets)

    async def on_tick(self, counter: int) -> bool:
        return self.service.workers.failed is not None or await super().on_tick(counter)


def server(
    host: str, port: int, keys: Mapping[str, str] | None, limits: Limits, *, model: str, queue: int,
    devices: Sequence[str | None] = (None,), dtype: str | None = None, state: Path | None = None,
    keep: Keep | None = None, per_key: int | None = None, time_limit: float | None = None,
    load_limit: float | None = None, database: str | None = None, log: Any = None,
) -> Server:  # fmt: skip
    """A server that is ready to run, with workers that are not started yet, one for each of `devices`. state: folder
    for jobs; None: there are none. database: of their queue, as `Jobs` takes it. keep: how long they are kept, a
    `Keep`; None: for ever. per_key: how many requests of a key may wait, and how many jobs; time_limit, load_limit:
    seconds of a set, and of loading the model; None: no limit. log: None for stderr."""
    log, metrics = log or logger(), Metrics()
    loads = functools.partial(load, model, dtype)
    workers = Workers(
        loads, devices, queue, metrics.stage, log, per_key=per_key, seconds=time_limit, load_seconds=load_limit
    )
    service = Service(workers, model, limits, log, metrics)
    jobs = None if state is None else _jobs(state, service, keep, per_key, database)
    config = uvicorn.Config(
        Guard(application(service, jobs), keys, limits, log, metrics), host, port, log_config=None, access_log=False,
        server_header=False, timeout_graceful_shutdown=GRACE, ws="none",
    )  # fmt: skip
    return Server(config, service, jobs)


def _jobs(state: Path, service: Service, keep: Keep | None, per_key: int | None, database: str | None) -> Jobs:
    from ctxrep_plugins.server.job_making import Maker
    from ctxrep_plugins.server.jobs import Jobs

    maker = Maker(service.workers, service.model, service.refused, service.metrics.made)

    def make(job: str, owner: str | None) -> dict[str, Any]:
        return maker.make(job, owner, jobs.shelf.place, functools.partial(jobs.cancelled, job))

    at_once = len(service.workers.all)  # more would be taken up in no order
    jobs = Jobs(
        state, make, keep or Keep(), at_once=at_once, per_key=per_key, database=database, left=service.workers.sweep
    )
    jobs.grace = GRACE
    return jobs


def run(host: str, port: int, keys: Mapping[str, str] | None, limits: Limits, **options: Any) -> None:
    """Serves until it is told to stop. Raises ModelError where the model cannot be loaded, InputError where the
    database of the jobs cannot be used."""
    made = server(host, port, keys, limits, **options)
    log, workers = made.service.log, made.service.workers
    libraries = [logging.getLogger(name) for name in (None, "dbos")]
    try:
        with told(lambda kind: log.warning("warning", category=kind)), told_by_libraries(log, *libraries):
            workers.start()
            made.run()
    except SystemExit:  # uvicorn's, where the application cannot begin
        if made.service.failed is None:
            raise
    finally:  # uvicorn raises the signal again that ended it
        under_way = workers.loaded and workers.waiting
        workers.kill()
        if under_way:
            sys.stderr.flush()  # a run that goes on for longer than anybody waits; a job is taken up again
            os._exit(128 + signal.SIGTERM)
    if failed := made.service.failed or workers.failed:
        raise failed
