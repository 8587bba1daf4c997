"""What judging takes: python tests/benchmarks/judging.py

Six edits of a photograph of 1024 x 1024 pixels by the default checks: as a run judges its own, at their size; as
`assess` does; with a mask; and where the edits have another aspect, so that a frame is looked for. Printed are seconds
a picture; the same in LPIPS maps of one such picture, timed in the same process; and what it takes of memory at its
peak, beyond what torch, LPIPS and the pictures take. Each in a process of its own; --threads is torch's, 2.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import subprocess
import sys
import time

import torch
from PIL import Image
from skimage import data

from ctxrep_edit import CHECKS, DEFAULT_CHECKS, Case, assess, judge, lpips_maps, to_tensor

SIDE, N = 1024, 6
WAYS = ("run", "assess", "assess, mask", "assess, other aspect")


def pictures(aspect: float) -> tuple[Image.Image, list[Image.Image], Image.Image]:
    """A source, edits of it with another thing pasted in, as JPEGs, and a mask of where they were."""
    whole = Image.fromarray(data.astronaut()).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    thing = Image.fromarray(data.chelsea()).crop((110, 60, 330, 260)).resize((300, 260))
    mask = Image.new("L", whole.size)
    mask.paste(255, (40, 560, 600, 1000))
    edits = []
    for i in range(N):
        edit, file = whole.copy(), io.BytesIO()
        edit.paste(thing, (60 + 40 * i, 600 + 10 * i))
        edit.resize((round(SIDE * aspect), SIDE), Image.Resampling.LANCZOS).save(file, "JPEG", quality=80)
        edits.append(Image.open(file).convert("RGB"))
    return whole, edits, mask


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def one(way: str, threads: int) -> dict[str, float]:
    torch.set_num_threads(threads)
    source, edits, mask = pictures(0.9 if way.endswith("aspect") else 1.0)
    small = [picture.resize((64, 64)) for picture in (source, edits[0])]
    assess(small[0], small[1:])  # what the first call alone takes: imports and LPIPS
    before, after = to_tensor(source), torch.cat([to_tensor(edit.resize(source.size)) for edit in edits])
    used, start = peak(), time.perf_counter()
    if way == "run":
        judge(Case(before, after, None, "", True, lambda: before), [CHECKS.get(name) for name in DEFAULT_CHECKS])
    else:
        assess(source, edits, mask=mask if way.endswith("mask") else None)
    seconds, used = (time.perf_counter() - start) / N, peak() - used
    start = time.perf_counter()
    lpips_maps(before, after[:1])
    return {"seconds": seconds, "lpips": time.perf_counter() - start, "megabytes": used}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one(arguments.one, arguments.threads)))
        return
    print("| judged | s a picture | in LPIPS maps of one | MB at the peak |")
    print("|---|---|---|---|")
    for way in WAYS:
        command = [sys.executable, __file__, "--one", way, "--threads", str(arguments.threads)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        ratio = found["seconds"] / found["lpips"]
        print(f"| {way} | {found['seconds']:.2f} | {ratio:.1f} | {found['megabytes']:.0f} |", flush=True)


if __name__ == "__main__":
    main()
