"""Sets of edits as tasks of Celery: one pipeline in each process of a worker, one task for a set, whose edits are made
together.

    pip install ctxrep-edit celery
    celery -A celery_worker worker --concurrency 1      # in the folder of this file; 1: as many as there are devices

and from any other process:

    from celery_worker import edit
    edit.delay("order-4711", "photo.jpg", "change the light", n=4).get()

Broker and result backend stand in celeryconfig.py beside it: broker_url = "amqp://", result_backend = "rpc://".
A set is done once: a task that is delivered again, as after its worker was killed, finds the folder of its order, or
makes the set anew from the same seeds. Whether it is delivered again is up to the broker: RabbitMQ and Redis do that.
"""

from __future__ import annotations

import json
import zlib
from functools import cache
from pathlib import Path
from typing import Any

from celery import Celery
from celery.signals import worker_process_init

from ctxrep_edit import diverse_edit, load_pipeline

MODEL = "kontext-nano"
PLACE = Path("orders")

app = Celery("celery_worker")
app.conf.update(
    task_acks_late=True,  # a set counts as done when it is saved, not when it is begun
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,  # none waits behind a long one while another worker is idle
)
app.config_from_object("celeryconfig")


@cache
def pipeline() -> Any:
    return load_pipeline(MODEL, progress=False)


@worker_process_init.connect
def load(**_: Any) -> None:
    """In each process of its own: a pipeline that was loaded before a fork cannot be used after it."""
    pipeline()


@app.task
def edit(order: str, image: str, instruction: str, n: int = 6, **options: Any) -> dict[str, Any]:
    """What `edits.json` says of the set, which is in the folder of its order."""
    if not order.replace("-", "").isalnum():
        raise ValueError(f"{order!r} cannot be the name of a folder: take letters, digits and -.")
    found = PLACE / order / "edits.json"
    if not found.exists():
        options = {"seed": zlib.crc32(order.encode()), **options}
        edits = diverse_edit(image, instruction, n, pipeline=pipeline(), progress=False, **options)
        edits.save(PLACE / order)  # whole or not at all
    made: dict[str, Any] = json.loads(found.read_text("utf-8"))
    if (made["instruction"], made["recipe"]["n"]) != (instruction, n):
        raise ValueError(f"{order} was another set, {made['instruction']!r}: give this one another name.")
    return made
