"""The commands: serve, and new-key."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Any

import click
from ctxrep_plugins.shared import need

from ctxrep_edit import InputError

NEEDED = ("dbos", "fastapi", "filelock", "multipart", "prometheus_client", "structlog", "uvicorn")
MOST_WORKERS = 64


@click.command()
@click.option("--model", default="kontext-nano", show_default=True, help="Embedded model, local folder, or hub id.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address; any but this machine's wants keys.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option(
    "--api-key-file", type=click.Path(path_type=Path), help="Keys that may ask; 'ctxrep-edit new-key' makes them."
)
@click.option("--state", type=click.Path(path_type=Path), help="Folder for jobs, which outlive the server.")
@click.option(
    "--database", envvar="CTXREP_EDIT_DATABASE", show_envvar=True, metavar="postgresql://...",
    help="PostgreSQL for the queue of jobs; pictures stay in --state.  [default: SQLite in --state]",
)  # fmt: skip
@click.option("--keep-days", type=click.FloatRange(0, min_open=True), help="Remove older jobs.  [default: never]")
@click.option(
    "--keep-gigabytes", type=click.FloatRange(0, min_open=True),
    help="Remove the oldest jobs while all take more.  [default: never]",
)  # fmt: skip
@click.option("--device", help="Torch device, such as cuda or cpu.  [default: what torch finds]")
@click.option(
    "--workers", help="Devices, such as cuda:0,cuda:1, each with a process of its own; or a number of processes on "
    "--device.  [default: 1]",
)  # fmt: skip
@click.option(
    "--time-limit", type=click.FloatRange(0, min_open=True), default=3600, show_default=True,
    help="Seconds that a set may take; its worker is ended then, and started anew.",
)  # fmt: skip
@click.option(
    "--load-limit", type=click.FloatRange(0, min_open=True), default=3600, show_default=True,
    help="Seconds that loading the model may take, a download too; its worker is started anew then.",
)  # fmt: skip
@click.option("--dtype", help="float32, bfloat16 or float16.  [default: float32 on a CPU, else bfloat16]")
@click.option("--queue", type=click.IntRange(0), default=16, show_default=True, help="How many requests may wait.")
@click.option("--per-key", type=click.IntRange(1), help="How many requests of a key may wait, and how many jobs.")
@click.option("--max-n", type=click.IntRange(1, 256), default=16, show_default=True, help="Edits of one request.")
@click.option(
    "--max-megapixels", type=click.IntRange(1, 170), default=64, show_default=True, help="Of a picture, in millions."
)
@click.option("--max-megabytes", type=click.IntRange(1), default=64, show_default=True, help="Of a request, in MiB.")
def serve(
    host: str, port: int, api_key_file: Path | None, max_n: int, max_megapixels: int, max_megabytes: int,
    keep_days: float | None, keep_gigabytes: float | None, device: str | None, workers: str | None,
    per_key: int | None, **options: Any,
) -> None:  # fmt: skip
    """Edit pictures over HTTP, as the openai client asks for it: POST /v1/images/edits.

    Runs until it is interrupted; requests under way are finished first, for at most half a minute. Logs are JSON on
    stderr. See docs/server.md.
    """
    need("serve", NEEDED, "server")
    if api_key_file is None and not _is_loopback(host):
        raise InputError(
            f"The address {host} can be reached from other machines, so keys are needed: make one with 'ctxrep-edit "
            "new-key keys.txt NAME', and give --api-key-file keys.txt."
        )
    if options["state"] is None and (keep_days, keep_gigabytes) != (None, None):
        raise InputError(
            "--keep-days and --keep-gigabytes are for the jobs in --state, which is not given: give it too."
        )
    database = options["database"]
    if database is not None and (options["state"] is None or not database.startswith("postgresql://")):
        raise InputError(
            "--database must be postgresql://USER:PASSWORD@HOST:PORT/NAME, and is for the jobs in --state: give both."
        )
    if per_key is not None and api_key_file is None:
        raise InputError("--per-key is for the keys in --api-key-file, which is not given: give it too.")
    devices = _devices(workers, device)
    from ctxrep_plugins.server.keys import read_keys
    from ctxrep_plugins.server.parameters import Keep, Limits
    from ctxrep_plugins.server.running import run

    keys = None if api_key_file is None else read_keys(api_key_file)
    limits = Limits(n=max_n, body=max_megabytes * 2**20, pixels=max_megapixels * 10**6)
    keep = Keep(
        None if keep_days is None else keep_days * 24 * 3600,
        None if keep_gigabytes is None else int(keep_gigabytes * 1e9),
    )
    run(host, port, keys, limits, keep=keep, devices=devices, per_key=per_key, **options)


@click.command("new-key")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("name")
def new_key(file: Path, name: str) -> None:
    """Make a key for 'ctxrep-edit serve', and add its hash to FILE under NAME.

    Prints the key, which is kept nowhere. To take it back, take its line out of FILE and start the server again.
    """
    from ctxrep_plugins.server.keys import add_key

    click.echo(add_key(file, name))


def _devices(workers: str | None, device: str | None) -> list[str | None]:
    """Of each worker. Raises InputError."""
    if workers is None:
        return [device]
    if workers.isascii() and workers.isdigit() and 1 <= int(workers[:4]) <= MOST_WORKERS:
        return [device] * int(workers)
    devices = [one.strip() for one in workers.split(",")]
    if device is not None or not all(re.fullmatch(r"[a-z]+(:\d+)?", one) for one in devices):
        raise InputError(
            f"--workers is {workers!r}, but must be a number from 1 to {MOST_WORKERS}, or devices such as "
            "cuda:0,cuda:1, then without --device."
        )
    return list(devices)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
