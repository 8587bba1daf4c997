"""Trains a transformer and its text encoders, on pairs of latents."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from ctxrep_plugins.nano.models.model import SHIFT, Model
from ctxrep_plugins.nano.training import autoencoder
from ctxrep_plugins.nano.training.checkpoints import keep
from ctxrep_plugins.nano.training.pairs import Batch, on
from torch import Tensor

BATCH = 40
MATRIX_RATE = 2e-3  # of Muon, for the matrices inside the blocks
PEAK_RATE = 1.2e-3  # of AdamW, for all the rest
LONG = 1500  # steps, for which compiling the blocks saves more than it costs
SETTLED = 0.86  # share of noise below which the answer is settled


def _exact_attention() -> None:
    """Attention in float32 under autocast: on a CPU its backward pass is twice as fast as in bfloat16."""
    native = torch.nn.functional.scaled_dot_product_attention

    def attention(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return native(query.float(), key.float(), value.float(), **options)

    torch.nn.functional.scaled_dot_product_attention = attention


def flow_loss(model: Model, batch: Batch, generator: torch.Generator, teacher: Model | None = None) -> Tensor:
    """Rectified-flow loss, heavier where the target differs from the source; a scalar.

    With a `teacher` the aim is what it predicts, which is the mean of the aims that the pairs give.

    Pairs whose answers were drawn evenly come with little noise only, where the noisy picture shows already which
    answer it will be. So rare answers are drawn as well as typical ones, and not more often.
    """
    source, target = batch.source, batch.target
    n, device = len(source), source.device
    u = torch.sigmoid(torch.randn(n, generator=generator) + 0.2)  # logit-normal
    u = torch.where(torch.rand(n, generator=generator) < 0.1, torch.rand(n, generator=generator), u)
    sigma = SHIFT * u / (1 + (SHIFT - 1) * u)
    sigma = torch.where(batch.even.cpu() & (sigma > SETTLED), SETTLED * torch.rand(n, generator=generator), sigma)
    noise = torch.randn(target.shape, generator=generator).to(device)
    sigma = sigma.to(device)
    s = sigma[:, None, None, None]
    asked = (1 - s) * target + s * noise, source, sigma, batch.phrase
    predicted = model.velocity(*asked).float()
    aim = noise - target
    if teacher is not None:
        with torch.no_grad():
            aim = teacher.velocity(*asked).float()
    return weighted(predicted - aim, source, target)


def weighted(error: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """The mean square of `error`, heavier where the target differs from the source; a scalar. (n, 16, h, w) each."""
    changed = ((target - source).abs().mean(1, keepdim=True) > 0.1).float()  # (n, 1, h, w)
    weight = 1 + 3 * changed
    return (weight * error.square().mean(1, keepdim=True)).mean() / weight.mean()


def optimisers(model: Model, muon: bool = True) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for the blocks' matrices, AdamW for the rest; each rate is scaled per step.

    muon: without it AdamW for the matrices too. Its own work is in bfloat16, slow on a CPU that has no such units.
    """
    if not muon:
        return [torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=0.01, betas=(0.9, 0.98))]
    matrices = list(model.matrices())
    known = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in known]
    return [
        torch.optim.Muon(matrices, lr=MATRIX_RATE, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=PEAK_RATE, weight_decay=0.01, betas=(0.9, 0.98)),
    ]


Loss = Callable[[Model, Any, torch.Generator], Tensor]


class Examples(Protocol):
    """What a model is trained on."""

    def batch(self, size: int, rng: np.random.Generator) -> Any:
        """`size` of them, drawn with `rng`, as the loss takes them."""


def train(
    model: Model, pairs: Examples, checkpoint: Path, steps: int, seed: int, mixed: bool = True, rates: float = 1.0,
    loss: Loss = flow_loss, muon: bool = True, size: int = BATCH,
) -> None:  # fmt: skip
    """Trains `model` for `steps`, resuming from `checkpoint`; leaves the averaged weights in it. What needs no gradient
    stays.

    mixed: under autocast to bfloat16. rates: share of the peak learning rates. muon: as in `optimisers`. size: pairs
    a step.
    """
    everything = optimisers(model, muon)
    peaks = [optimiser.param_groups[0]["lr"] for optimiser in everything]
    average = {k: v.detach().clone() for k, v in model.state_dict().items()}
    device = next(model.parameters()).device
    start = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location=device)
        model.load_state_dict(state["model"])
        average = state["average"]
        start = state["step"]
        for optimiser, saved in zip(everything, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
    if device.type == "cpu":
        _exact_attention()
    if steps >= LONG:
        for block in model.blocks():
            block.compile(dynamic=False)
    smooth, began = None, time.monotonic()
    for step in range(start, steps):
        scale = rates * autoencoder.rate(step, steps)
        for peak, optimiser in zip(peaks, everything, strict=True):
            optimiser.param_groups[0]["lr"] = peak * scale
        batch = on(device, pairs.batch(size, np.random.default_rng([seed, 4, step])))
        with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            value = loss(model, batch, torch.Generator().manual_seed(seed * 1_000_003 + step))
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in everything:
            optimiser.step()
            optimiser.zero_grad()
        decay = min(0.998, (step + 1) / (step + 10))
        for name, current in model.state_dict().items():
            average[name].lerp_(current, 1 - decay) if current.is_floating_point() else average[name].copy_(current)
        smooth = value.item() if smooth is None else 0.98 * smooth + 0.02 * value.item()
        if step % 10 == 9:
            print(f"transformer {step + 1}/{steps}  loss {smooth:.4f}  {time.monotonic() - began:.0f} s", flush=True)
        if step % 100 == 99 or step == steps - 1:
            state = {"model": model.state_dict(), "average": average, "step": step + 1}
            state["optimisers"] = [optimiser.state_dict() for optimiser in everything]
            keep(state, checkpoint)
    model.load_state_dict(average)
    model.eval().requires_grad_(False)
