"""From the options of the command to a server that runs."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from ctxrep_plugins.server.app import Service, application
from ctxrep_plugins.server.guard import Guard
from ctxrep_plugins.server.logs import fault, logger
from ctxrep_plugins.server.metrics import Metrics
from ctxrep_plugins.server.parameters import Keep, Limits
from ctxrep_plugins.server.warned import told
from ctxrep_plugins.server.worker import Worker

from ctxrep_edit import load_pipeline

if TYPE_CHECKING:
    from ctxrep_plugins.server.jobs import Jobs

GRACE = 30
"""Seconds that requests under way may take to end when the server is stopped."""


class Server(uvicorn.Server):
    """Says where it listens, and ends when the model cannot be loaded."""

    def __init__(self, config: uvicorn.Config, service: Service, jobs: Jobs | None) -> None:
        super().__init__(config)
        self.service, self.jobs = service, jobs

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        for place in (socket.getsockname() for server in self.servers for socket in server.sockets):
            self.service.log.info("listening", host=place[0], port=place[1], model=self.service.model)

    async def on_tick(self, counter: int) -> bool:
        return self.service.worker.failed is not None or await super().on_tick(counter)


def server(
    host: str, port: int, keys: Mapping[str, str] | None, limits: Limits, *, model: str, queue: int,
    device: str | None = None, dtype: str | None = None, state: Path | None = None, keep: Keep | None = None,
    log: Any = None,
) -> Server:  # fmt: skip
    """A server that is ready to run, with a worker that is not started yet. state: folder for jobs; None: there are
    none. keep: how long they are kept, a `Keep`; None: for ever. log: None for stderr."""
    log, metrics = log or logger(), Metrics()
    worker = Worker(lambda: load_pipeline(model, device=device, dtype=dtype, progress=False), queue, metrics.stage)
    service = Service(worker, model, limits, log, metrics)
    jobs = None if state is None else _jobs(state, service, keep)
    config = uvicorn.Config(
        Guard(application(service, jobs), keys, limits, log, metrics), host, port, log_config=None, access_log=False,
        server_header=False, timeout_graceful_shutdown=GRACE, ws="none",
    )  # fmt: skip
    return Server(config, service, jobs)


def _jobs(state: Path, service: Service, keep: Keep | None) -> Jobs:
    from ctxrep_plugins.server.job_making import Maker
    from ctxrep_plugins.server.jobs import Jobs

    maker = Maker(service.worker, service.model, service.refused, service.metrics.made)
    jobs = Jobs(state, lambda job: maker.make(job, jobs.shelf, lambda: job in jobs.cancelled), keep or Keep())
    jobs.grace = GRACE
    return jobs


def run(host: str, port: int, keys: Mapping[str, str] | None, limits: Limits, **options: Any) -> None:
    """Serves until it is told to stop. Raises ModelError where the model cannot be loaded."""
    made = server(host, port, keys, limits, **options)
    loggers, listener = [logging.getLogger(name) for name in (None, "dbos")], _Told(made.service.log)
    for other in loggers:
        other.addHandler(listener)
    try:
        with told(lambda kind: made.service.log.warning("warning", category=kind)):
            made.service.worker.start()
            made.run()
    finally:  # uvicorn raises the signal again that ended it
        if made.service.worker.loaded and made.service.worker.waiting:
            sys.stderr.flush()  # a run that goes on for longer than anybody waits; a job is taken up again
            os._exit(128 + signal.SIGTERM)
        for other in loggers:
            other.removeHandler(listener)
    if made.service.worker.failed is not None:
        raise made.service.worker.failed


class _Told(logging.Handler):
    """What the libraries below find wrong: its kind and place, as a text of theirs may quote a client."""

    def __init__(self, log: Any) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        raised = record.exc_info[1] if record.exc_info else None
        where = {"where": [f"{record.module}:{record.lineno}"]} if raised is None else fault(raised)
        self._log.warning("library", logger=record.name, severity=record.levelname, **where)
