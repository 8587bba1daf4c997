"""Trains an embedded model from a folder of photographs: `python -m ctxrep_plugins.nano.train --help`.

Every stage resumes from its checkpoint, and the same seed gives the same weights on the same machine: each step draws
from generators seeded by its own number.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from ctxrep_plugins.nano.model import Model, loss, save
from ctxrep_plugins.nano.training import autoencoder
from ctxrep_plugins.nano.training.pairs import Pairs
from ctxrep_plugins.nano.world import photos
from diffusers import AutoencoderTiny
from torch import Tensor

BATCH = 40
MATRIX_RATE = 2e-3  # of Muon, for the matrices inside the blocks
PEAK_RATE = 1.2e-3  # of AdamW, for all the rest


def _exact_attention() -> None:
    """Attention in float32 under autocast: on a CPU its backward pass is twice as fast as in bfloat16."""
    native = torch.nn.functional.scaled_dot_product_attention

    def attention(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return native(query.float(), key.float(), value.float(), **options)

    torch.nn.functional.scaled_dot_product_attention = attention


def optimisers(model: Model) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for the blocks' matrices, AdamW for the rest; each rate is scaled per step."""
    matrices = list(model.matrices())
    known = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in known]
    return [
        torch.optim.Muon(matrices, lr=MATRIX_RATE, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=PEAK_RATE, weight_decay=0.01, betas=(0.9, 0.98)),
    ]


def train(
    model: Model, pairs: Pairs, checkpoint: Path, steps: int, seed: int, mixed: bool = True, rates: float = 1.0
) -> None:
    """Trains `model` for `steps`, resuming from `checkpoint`; leaves the averaged weights in it.

    mixed: under autocast to bfloat16. rates: share of the peak learning rates.
    """
    everything = optimisers(model)
    average = {k: v.detach().clone() for k, v in model.state_dict().items()}
    start = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        average = state["average"]
        start = state["step"]
        for optimiser, saved in zip(everything, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
    _exact_attention()
    for block in model.blocks():
        block.compile(dynamic=False)
    smooth, began = None, time.monotonic()
    for step in range(start, steps):
        scale = rates * autoencoder.rate(step, steps)
        for peak, optimiser in zip((MATRIX_RATE, PEAK_RATE), everything, strict=True):
            optimiser.param_groups[0]["lr"] = peak * scale
        batch = pairs.batch(BATCH, np.random.default_rng([seed, 4, step]))
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
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
        if step % 50 == 49:
            print(f"transformer {step + 1}/{steps}  loss {smooth:.4f}  {time.monotonic() - began:.0f} s", flush=True)
        if step % 250 == 249 or step == steps - 1:
            state = {"model": model.state_dict(), "average": average, "step": step + 1}
            state["optimisers"] = [optimiser.state_dict() for optimiser in everything]
            torch.save(state, checkpoint.with_suffix(".part"))
            checkpoint.with_suffix(".part").replace(checkpoint)
    model.load_state_dict(average)
    model.eval().requires_grad_(False)


@click.command(context_settings={"show_default": True})
@click.argument("name", type=click.Choice(["kontext-nano", "sd3-nano"]))
@click.option("--photos", "folder", type=click.Path(exists=True, path_type=Path), required=True, help="Photographs.")
@click.option("--work", type=click.Path(path_type=Path), default=Path("work"), help="Folder for checkpoints and pairs.")
@click.option(
    "--start", type=click.Path(exists=True, path_type=Path), help="Pipeline folder of the same NAME to train on from."
)
@click.option(
    "--autoencoder", "taken", type=click.Path(exists=True, path_type=Path),
    help="Pipeline folder whose autoencoder is taken over instead of training one.",
)  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), default=Path(), help="The pipeline goes into a folder in here.")
@click.option("--decoder-steps", default=3650, help="Steps of the autoencoder's decoder.")
@click.option("--steps", default=4000, help="Steps of the transformer and the text encoders.")
@click.option("--rates", default=1.0, help="Share of the peak learning rates; less than 1 suits --start.")
@click.option("--pairs", default=48_000, help="Training pairs made beforehand.")
@click.option("--seed", default=0)
@click.option("--float32", is_flag=True, help="No bfloat16: faster on a CPU whose matrix units do not know it.")
def main(
    name: str, folder: Path, work: Path, start: Path | None, taken: Path | None, out: Path, decoder_steps: int,
    steps: int, rates: float, pairs: int, seed: int, float32: bool,
) -> None:  # fmt: skip
    """Train the model NAME from a folder of photographs; started again, it goes on where it stopped."""
    work.mkdir(parents=True, exist_ok=True)
    pictures = photos.read_folder(folder)
    torch.manual_seed(seed)
    model = _untrained(name)
    if start is not None:
        vae = model.load(start)
    elif taken is not None:
        vae = AutoencoderTiny.from_pretrained(taken, subfolder="vae")
    else:
        vae = autoencoder.build()
        autoencoder.fit_encoder(vae, pictures, seed)
        autoencoder.train_decoder(vae, pictures, work / "decoder.pt", decoder_steps, seed)
    train(model, Pairs(pictures, vae, pairs, work, seed), work / f"{name}.pt", steps, seed, not float32, rates)
    save(model, vae, out / name)
    print(f"The pipeline is in {out / name}")


def _untrained(name: str) -> Model:
    if name == "kontext-nano":
        from ctxrep_plugins.nano.kontext import Kontext

        return Kontext()
    from ctxrep_plugins.nano.sd3 import Sd3

    return Sd3()


if __name__ == "__main__":
    main()
