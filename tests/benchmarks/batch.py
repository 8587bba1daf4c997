"""Whether a batch on Ray keeps its rows: python tests/benchmarks/batch.py --rows 60

`ctxrep-edit batch` makes the rows of a manifest without Ray, then on a local Ray of two actors, one of which is killed
(kill -9) when a third of the rows is there. Printed is how many rows there are, each once, and how many pictures are
the same, byte by byte; the exit status is 1 where any is not.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from PIL import Image
from skimage import data

WORDS = ("add a sticker", "add a frame", "change the light", "change the style", "recolour it")
BATCH = [sys.executable, "-c", "from ctxrep_edit.cli import main; main()", "batch"]


def manifest(folder: Path, rows: int, n: int, steps: int) -> Path:
    """Rows of three photographs, with no two the same."""
    for name in ("astronaut", "coffee", "cat"):
        Image.fromarray(getattr(data, name)()).resize((192, 128)).save(folder / f"{name}.png")
    photos = sorted(folder.glob("*.png"))
    file = folder / "rows.csv"
    with open(file, "w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["id", "image", "instruction", "n", "steps"])
        for i in range(rows):
            table.writerow([f"row-{i}", photos[i % 3].name, WORDS[i % 5], n, steps])
    return file


def killed(process: subprocess.Popen[bytes], out: Path, after: int) -> int:
    """Kills an actor of a batch when that many rows are there; its process id."""
    while process.poll() is None:
        if len(list(out.glob("*/row.json"))) >= after:
            for child in psutil.Process(process.pid).children(recursive=True):
                if "MapWorker" in " ".join(child.cmdline()):
                    child.send_signal(signal.SIGKILL)
                    return child.pid
        time.sleep(0.05)
    raise SystemExit("The batch ended before there was anything to kill.")


def records(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text("utf-8").splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=60)
    parser.add_argument("-n", type=int, default=2)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--model", default="kontext-nano")
    asked = parser.parse_args()
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        file = manifest(folder, asked.rows, asked.n, asked.steps)
        here, ray = folder / "here", folder / "ray"
        command = [*BATCH, str(file), "--model", asked.model, "--device", "cpu", "-o"]
        begun = time.monotonic()
        subprocess.run([*command, str(here)], check=True, env=environment)
        took = time.monotonic() - begun
        begun = time.monotonic()
        process = subprocess.Popen([*command, str(ray), "--ray", "local", "--actors", "2"], env=environment)
        actor = killed(process, ray, asked.rows // 3)
        assert process.wait() == 0
        took_on_ray = time.monotonic() - begun
        ids = [record["id"] for record in records(ray)]
        pictures = sorted(picture.relative_to(here) for picture in here.glob("*/edit-*.png"))
        same = [name for name in pictures if (here / name).read_bytes() == (ray / name).read_bytes()]
        once = ids == [record["id"] for record in records(here)] == [f"row-{i}" for i in range(asked.rows)]
        made = all(record["status"] == "made" for record in records(ray))
        print(f"without Ray {took:.0f} s; two actors, {actor} killed: {took_on_ray:.0f} s")
        print(f"{len(ids)} rows, each once: {once}, all made: {made}")
        print(f"pictures the same: {len(same)} of {len(pictures)}")
        raise SystemExit(not (once and made and len(same) == len(pictures) == asked.rows * asked.n))


if __name__ == "__main__":
    main()
