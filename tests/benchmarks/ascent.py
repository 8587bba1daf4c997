"""The repulsion step at real sizes: python tests/benchmarks/ascent.py [--device cuda] [--iterations 5]

Ratios of time in one run, alternating, the least of several rounds; processor time on a CPU. Against three passes over
the tokens, which read them once, and then read them and write a new tensor, fresh memory included, as every block of a
transformer does: the step of this package; the paper's loop on the tokens themselves with the gradient in closed form;
and the same loop by autograd. The loops are left out where their tensors would not fit. On CUDA the synchronisations of
the host with the device in one step are counted, too. `--against FILE` adds the step of another version of
ctxrep_edit/repulsion/ascent.py, from a file that stands alone.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ctxrep_edit.repulsion.ascent import repel

SIZES = {
    "FLUX text": (512, 3072),
    "FLUX text and image": (4608, 3072),
    "SD3.5-Large text": (333, 2432),
    "Qwen-Image text": (1300, 3072),
}
MOST = 2**27  # numbers in the particles, up to which the loops on the tokens are run


def unit(x: Tensor) -> tuple[Tensor, Tensor]:
    norms = torch.linalg.vector_norm(x, dim=1, keepdim=True)  # (n, 1)
    return x / norms, norms


def in_token_space(tokens: Tensor, eta: float, iterations: int) -> Tensor:
    """Eq. 2, each of the M gradients of eq. 4 over all numbers of the particles."""
    x = tokens.flatten(1).float()  # (n, numbers)
    for _ in range(iterations):
        u, norms = unit(x)
        values, vectors = torch.linalg.eigh(u @ u.T / len(u))
        logs = torch.where(values > 1e-7, values.clamp_min(1e-7).log(), 0.0)
        slope = -2 / len(u) * (vectors * logs) @ vectors.T @ u  # (n, numbers) dL/du
        x = x + eta / iterations * (slope - (slope * u).sum(1, keepdim=True) * u) / norms
    return x.view(tokens.shape).to(tokens.dtype)


def by_autograd(tokens: Tensor, eta: float, iterations: int) -> Tensor:
    x = tokens.flatten(1).float()
    for _ in range(iterations):
        x = x.detach().requires_grad_()
        u, _norms = unit(x)
        values = torch.linalg.eigvalsh(u @ u.T / len(u) + 1e-6 * torch.eye(len(u), device=u.device))
        (gradient,) = torch.autograd.grad(-(values * values.log()).sum(), x)
        x = x + eta / iterations * gradient
    return x.detach().view(tokens.shape).to(tokens.dtype)


def seconds(*works: Callable[[], Any], rounds: int, cuda: bool) -> list[float]:
    """Of each, in turn."""
    least = [float("inf")] * len(works)
    clock = time.perf_counter if cuda else time.process_time
    for _ in range(rounds):
        for i, work in enumerate(works):
            began = clock()
            work()
            if cuda:
                torch.cuda.synchronize()
            least[i] = min(least[i], clock() - began)
    return least


def synchronisations(work: Callable[[], Any]) -> int:
    """How often the host waits for the device in it."""
    work()
    before = torch.cuda.get_sync_debug_mode()
    try:
        torch.cuda.set_sync_debug_mode("warn")
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            work()
    finally:
        torch.cuda.set_sync_debug_mode(before)
    return sum("synchronizing" in str(entry.message) for entry in said)


def loaded(file: Path) -> Any:
    spec = importlib.util.spec_from_file_location("other", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["other"] = module
    spec.loader.exec_module(module)
    return module


def row(x: Tensor, asked: argparse.Namespace, other: Any) -> list[str]:
    """Of one tensor of tokens, what the table says beside its size."""
    eta, few = len(x) / 2 * float(x.float().square().sum((1, 2)).mean()), x.numel() <= MOST
    works = [lambda: x + x.sum(), lambda: repel(x, strength=1.0, iterations=asked.iterations)]
    if few:
        works += [lambda loop=loop: loop(x, eta, asked.iterations) for loop in (in_token_space, by_autograd)]
    if other:
        works.append(lambda: other.repel(x, strength=1.0, iterations=asked.iterations))
    cuda = x.device.type == "cuda"
    least = seconds(*works, rounds=asked.rounds, cuda=cuda)
    ratios = [f"{spent / least[0]:.1f}" for spent in least[1:]]
    ratios = ratios if few else [ratios[0], "", "", *ratios[1:]]
    return [*ratios, *([str(synchronisations(works[1]))] if cuda else [])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("-n", type=int, action="append", help="particles; may be repeated [2 6 24]")
    parser.add_argument("--against", type=Path)
    asked = parser.parse_args()
    other = loaded(asked.against) if asked.against else None
    torch.set_num_threads(1)
    columns = ["tokens", "n", "dtype", "step / passes", "loop / passes", "autograd / passes"]
    columns += ["other / passes"] if other else []
    columns += ["synchronisations"] if asked.device.startswith("cuda") else []
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for name, (length, dim) in SIZES.items():
        for n in asked.n or (2, 6, 24):
            for dtype in (torch.float32, torch.bfloat16):
                x = torch.randn(1, length, dim) + 0.01 * torch.randn(n, length, dim)
                x = x.to(asked.device, dtype)
                cells = [f"{name} {length} x {dim}", str(n), str(dtype).removeprefix("torch."), *row(x, asked, other)]
                print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
