"""Rows on a Ray cluster: several pipelines, each an actor of Ray Data. A set is one item, which no scheduler splits."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from ctxrep_plugins.batch.folder import Folder
from ctxrep_plugins.batch.making import Fault, Record, faults, make_once
from ctxrep_plugins.batch.manifest import Row
from ctxrep_plugins.shared import environment

from ctxrep_edit import CtxrepError, InputError, ModelError, encode_json, load_pipeline

STORE = 128 * 2**20
"""Bytes of a local cluster's object store: numbers of rows and records are all that lies there."""
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
"""Nothing is sent to the makers of Ray, and it says nothing of its own affairs."""
DEATHS = 10
"""How many actors may die one after the other while they load, before the batch is given up."""


class Actor:
    """A pipeline, and what is done with it."""

    def __init__(self, folder: Folder, model: Mapping[str, Any]) -> None:
        self._folder, self._pipeline = folder, load_pipeline(**model, progress=False)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[str]]:
        return {"record": [encode_json(make_once(row, self._pipeline, self._folder), None) for row in batch["row"]]}


@dataclass
class OnRay:
    """resources: of an actor, in Ray's words."""

    rows: Sequence[Row]
    folder: Folder
    model: Mapping[str, Any]
    actors: int
    resources: Mapping[str, float]

    def faults(self) -> Iterator[list[Fault]]:
        """Looked for by one task, as this machine may have nothing that the model runs on."""
        import ray

        def look(rows: Sequence[Row], model: Mapping[str, Any]) -> list[list[Fault]]:
            return list(faults(rows, load_pipeline(**model, progress=False)))

        task = ray.remote(max_calls=1, **self.resources)(look)
        try:
            yield from ray.get(task.remote(self.rows, self.model))
        except ray.exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, CtxrepError) else error) from None
        except ray.exceptions.RayError as error:
            raise ModelError(f"Ray could not check the rows: {error}. Nothing was begun.") from error

    def records(self) -> Generator[Record, None, None]:
        """Ray Data starts an actor that dies anew, and gives what it had under way to another."""
        import ray

        items = ray.data.from_items([{"row": row} for row in self.rows], override_num_blocks=len(self.rows))
        made = items.map_batches(
            Actor, fn_constructor_args=(self.folder, self.model), batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=self.actors, max_tasks_in_flight_per_actor=1), **self.resources,
        )  # fmt: skip
        try:
            for item in made.iter_rows():
                yield json.loads(item["record"])
        except ray.exceptions.RayError as error:
            raise ModelError(f"Ray gave the batch up: {error}. What is made stays; call it again.") from error


@contextmanager
def on_ray(
    address: str, actors: int | None, rows: Sequence[Row], folder: Folder, model: Mapping[str, Any]
) -> Iterator[OnRay]:
    """The rows on the cluster at `address`, or on one of this machine that lives as long. Raises InputError."""
    if importlib.util.find_spec("ray") is None:
        raise InputError("--ray needs ray, which is not installed: pip install 'ctxrep-edit[ray]'.")
    here, cores = address == "local", os.cpu_count() or 1
    folder = Folder(folder.place.absolute())
    with ExitStack() as stack:
        stack.enter_context(environment({**QUIET, **(_own_token() if here else {})}))
        import ray.data

        each = max(1, cores // (actors or 1)) if here else 1
        _connect(address, stack, max(cores, actors or 1) + 1 if here else None)
        gpus = int(ray.cluster_resources().get("GPU", 0))
        resources = {"num_gpus": 1} if gpus else {"num_cpus": each}
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        context.max_consecutive_actor_init_deaths = DEATHS
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what matters comes as an exception
        yield OnRay(rows, folder, model, min(actors or gpus or 1, len(rows)), resources)


def _connect(address: str, stack: ExitStack, cpus: int | None) -> None:
    """A cluster, until the end of `stack`."""
    import ray

    shared = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        place = stack.enter_context(_temporary())
        ray.init("local", num_cpus=cpus, object_store_memory=STORE, _temp_dir=place, **shared)
    else:
        shared.pop("include_dashboard")
        path = os.environ.get("PYTHONPATH")
        where = {"runtime_env": {"env_vars": {"PYTHONPATH": path}}} if path else {}
        try:
            ray.init(address, **where, **shared)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise InputError(f"--ray {address}: no cluster answers there ({error}). Give its address.") from error
    stack.callback(ray.shutdown)


def _own_token() -> dict[str, str]:
    """So that nobody else works on the local cluster, and Ray writes no token into the user's home."""
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


@contextmanager
def _temporary() -> Iterator[str]:
    """A folder for logs and sockets of a local cluster. Its name is short, as names of sockets must be."""
    place = tempfile.mkdtemp(prefix="ctxrep-ray-")
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
