"""Sends the server what nobody should: requests from its OpenAPI document by Schemathesis, and hostile uploads.

    python tests/benchmarks/hostile.py --requests 10000

Prints how many had which status, and every answer with a 5xx but 503 or with a traceback, which are faults; exits with
1 where there are any. Half of the requests are Schemathesis's, half from the corpus of tests/hostility.py.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parents[1]))

import hostility
import tiny
from ctxrep_plugins.server.warned import told
from serving import serving

OPERATIONS = 15
"""That the document names, about."""


@click.command()
@click.option("--requests", default=10_000, show_default=True)
@click.option("--seed", default=1, show_default=True)
def main(requests: int, seed: int) -> None:
    seen, begun = hostility.Seen(), time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        folder, state = Path(place, "tiny"), Path(place, "state")
        tiny.save(folder)
        state.mkdir()
        with told(lambda kind: None), serving(folder, state=state) as served:
            round_ = 0
            while seen.requests < requests:
                round_ += 1
                share = min(500, requests - seen.requests)
                hostility.from_schema(served.url, max(2, share // 2 // OPERATIONS), seed + round_, seen)
                hostility.from_corpus(served.url, share - share // 2, seed + round_, seen)
                statuses = ", ".join(f"{status or 'cut off'}: {n}" for status, n in sorted(seen.statuses.items()))
                took = f"{time.monotonic() - begun:.0f} s"
                click.echo(f"{seen.requests} requests in {took}, {len(seen.faults)} faults: {statuses}")
            faults = [*seen.faults, *(str(entry) for entry in served.logged("fault"))]
    for fault in faults:
        click.echo(f"FAULT {fault}")
    click.echo(f"{len(faults)} faults")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
