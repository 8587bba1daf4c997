"""The repulsion step at real sizes, against three passes over the tokens: python tests/benchmarks/ascent.py

Ratios of processor time in one run, alternating; the least of several. "Three passes" read the tokens once, then read
them and write a new tensor, fresh memory included, as every block of a transformer does. `--against FILE` adds the step
of another version of ctxrep_edit/repulsion/ascent.py, from a file that stands alone.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ctxrep_edit.repulsion.ascent import repel

SIZES = {"FLUX text": (512, 3072), "SD3.5-Large text": (333, 2432), "FLUX text and image": (4608, 3072)}


def seconds(*works: Callable[[], Any], rounds: int) -> list[float]:
    """Of each, in turn."""
    least = [float("inf")] * len(works)
    for _ in range(rounds):
        for i, work in enumerate(works):
            began = time.process_time()
            work()
            least[i] = min(least[i], time.process_time() - began)
    return least


def loaded(file: Path) -> Any:
    spec = importlib.util.spec_from_file_location("other", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["other"] = module
    spec.loader.exec_module(module)
    return module


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--against", type=Path)
    asked = parser.parse_args()
    other = loaded(asked.against) if asked.against else None
    torch.set_num_threads(1)
    print("tokens, n, dtype: step over three passes" + (", the other step over three passes" if other else ""))
    for name, (length, dim) in SIZES.items():
        for n in (2, 6):
            for dtype in (torch.float32, torch.bfloat16):
                x = torch.randn(1, length, dim) + 0.01 * torch.randn(n, length, dim)
                x = x.to(asked.device, dtype)

                def passes(x: torch.Tensor = x) -> torch.Tensor:
                    return x + x.sum()

                works = [passes, lambda x=x: repel(x, strength=1.0)]
                if other:
                    works.append(lambda x=x: other.repel(x, strength=1.0))
                least = seconds(*works, rounds=asked.rounds)
                ratios = ", ".join(f"{spent / least[0]:.1f}" for spent in least[1:])
                print(f"{name}, {n}, {str(dtype).removeprefix('torch.')}: {ratios}", flush=True)


if __name__ == "__main__":
    main()
