"""What sets in batches take: python tests/benchmarks/batches.py -n 2 -n 6 -n 24 --batch 1 --batch 2 --batch 0

Time and peak memory of plain and repelled sets, each in a process of its own, in turn; --batch 0 is one batch of all.
Printed are seconds per candidate and megabytes as ratios to the plain set of the same n and batch, and to the plain set
of two, with what the bank takes beside it. On a CPU the peak is the resident memory of the process, with torch and the
model in it; on CUDA what torch has allocated. Checks are off. --pairs repeats each pair; the medians are printed.

    --device cuda --model black-forest-labs/FLUX.1-Kontext-dev

measures another model on a GPU; a bank lies on the host in any case.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
from typing import Any

import torch
from skimage import data

from ctxrep_edit import diverse_edit, load_pipeline

MEGABYTE = 1e6


def one(model: str, device: str | None, n: int, batch: int, options: dict[str, Any]) -> dict[str, float]:
    """One set in this process: seconds of sampling, bytes at the peak, bytes of its bank."""
    pipeline = load_pipeline(model, device=device, progress=False)
    shared = {"pipeline": pipeline, "preserve": "off", "progress": False, "seed": 0}
    diverse_edit(data.astronaut(), "add a sticker", 1, strength=0, **shared)  # what the first call alone takes
    edits = diverse_edit(
        data.astronaut(), "add a sticker", n, batch_size=batch or n, bank="off" if batch in (0, n) else "memory",
        **shared, **options,
    )  # fmt: skip
    on_cuda = pipeline._execution_device.type == "cuda"
    peak = torch.cuda.max_memory_allocated() if on_cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    traces = [edit.trace for edit in edits if edit.trace]
    bank = sum(trace.nbytes for trace in traces)
    return {"seconds": edits.seconds, "peak": peak, "bank": bank}


def measured(arguments: argparse.Namespace, n: int, batch: int, options: dict[str, Any]) -> dict[str, float]:
    asked = json.dumps([arguments.model, arguments.device, n, batch, options])
    command = [sys.executable, __file__, "--one", asked]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, action="append", help="edits; may be repeated [2 6 12 24 48]")
    parser.add_argument("--batch", type=int, action="append", help="at once, 0: all; may be repeated [1 2 6 0]")
    parser.add_argument("--model", default="kontext-nano")
    parser.add_argument("--device")
    parser.add_argument("--oversample", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=1)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one(*json.loads(arguments.one))))
        return
    pair = measured(arguments, 2, 0, {"strength": 0})
    print(f"plain, n = 2: {pair['seconds'] / 2:.3f} s each, peak {pair['peak'] / MEGABYTE:.0f} MB\n")
    print("| n | at once | seconds / plain | s each / plain n = 2 | peak / plain | peak / plain n = 2 | bank, MB |")
    print("|---|---|---|---|---|---|---|")
    for n in arguments.n or (2, 6, 12, 24, 48):
        for batch in [size for size in arguments.batch or (1, 2, 6, 0) if size < n]:
            found: dict[str, list[dict[str, float]]] = {"plain": [], "repelled": []}
            for _ in range(arguments.pairs):
                found["plain"].append(measured(arguments, n, batch, {"strength": 0}))
                found["repelled"].append(measured(arguments, n, batch, {"oversample": arguments.oversample}))
            plain, repelled = (
                {what: statistics.median(run[what] for run in runs) for what in runs[0]} for runs in found.values()
            )
            ratios = [
                repelled["seconds"] / plain["seconds"],
                repelled["seconds"] / n / (pair["seconds"] / 2),
                repelled["peak"] / plain["peak"],
                (repelled["peak"] - repelled["bank"]) / pair["peak"],
            ]
            row = " | ".join(f"{ratio:.2f}" for ratio in ratios)
            print(f"| {n} | {batch or 'all'} | {row} | {repelled['bank'] / MEGABYTE:.0f} |", flush=True)


if __name__ == "__main__":
    main()
