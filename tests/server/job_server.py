"""A server of jobs without a model, to be killed: python job_server.py STATE. Prints its port."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import uvicorn
from ctxrep_plugins.server.app import Service, application
from ctxrep_plugins.server.guard import Guard
from ctxrep_plugins.server.jobs import Jobs
from ctxrep_plugins.server.logs import logger
from ctxrep_plugins.server.metrics import Metrics
from ctxrep_plugins.server.parameters import Limits
from ctxrep_plugins.server.workers import Workers


class Server(uvicorn.Server):
    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        print(self.servers[0].sockets[0].getsockname()[1], flush=True)


def main(state: Path) -> None:
    def make(job: str, owner: str | None) -> dict[str, Any]:
        with open(state / "begun.txt", "a", encoding="utf-8") as begun:
            begun.write(f"{job}\n")
        time.sleep(0.1)
        return {"data": [{"index": 0, "of": job, "by": os.getpid()}], "set": {}, "error": None}

    metrics = Metrics()
    workers = Workers(lambda device: None, [], 8, metrics.stage, logger())
    service = Service(workers, "none", Limits(), logger(), metrics)
    app = Guard(application(service, Jobs(state, make)), None, service.limits, service.log, metrics)
    Server(uvicorn.Config(app, port=0, log_config=None)).run()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
