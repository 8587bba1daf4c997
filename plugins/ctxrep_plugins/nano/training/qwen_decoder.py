"""Trains the inner decoder of `qwen-nano` to show what an `AutoencoderTiny` shows of the same latents."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from ctxrep_plugins.nano.models.qwen_autoencoder import inner, learned
from ctxrep_plugins.nano.training.autoencoder import rate
from ctxrep_plugins.nano.training.checkpoints import keep_decoder, taken_up
from ctxrep_plugins.nano.training.pairs import Pairs
from diffusers import AutoencoderKLQwenImage, AutoencoderTiny
from torch import Tensor, nn

BATCH = 16
PEAK_RATE = 2e-3
EVERY = 50  # steps from checkpoint to checkpoint
NOISE = 0.06  # at most, on the latents: a share of their root mean square


def train_decoder(
    vae: AutoencoderKLQwenImage, shown_by: AutoencoderTiny, pairs: Pairs, checkpoint: Path, steps: int, seed: int
) -> None:
    """Trains the decoder of `vae` for `steps`, resuming from `checkpoint`; the same seed gives the same weights."""
    parameters, device = learned(vae), shown_by.device
    _one_frame(vae.decoder)
    optimiser = torch.optim.AdamW(parameters, PEAK_RATE, weight_decay=0.0, betas=(0.9, 0.98))
    start = taken_up(vae, optimiser, checkpoint)
    began = time.monotonic()
    for step in range(start, steps):
        batch = pairs.batch(BATCH, np.random.default_rng([seed, 5, step]))
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        z = torch.where(torch.rand((BATCH, 1, 1, 1), generator=generator) < 0.5, batch.source, batch.target)
        z = z + NOISE * torch.rand((BATCH, 1, 1, 1), generator=generator) * torch.randn(z.shape, generator=generator)
        z = (z / shown_by.config.scaling_factor).to(device)
        with torch.no_grad():
            aim = shown_by.decode(z).sample
        error = (inner(vae, z) - aim).square().mean((1, 2, 3))  # (batch,)
        optimiser.param_groups[0]["lr"] = PEAK_RATE * rate(step, steps)
        optimiser.zero_grad()
        (error.mean() + 0.01 * (error + 1e-4).log().mean()).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        if (step + 1) % EVERY == 0 or step == steps - 1:
            decibel = float(10 * torch.log10(4 / error.detach()).mean())
            print(f"decoder {step + 1}/{steps}  {decibel:.2f} dB  {time.monotonic() - began:.0f} s", flush=True)
            keep_decoder(vae, optimiser, step + 1, checkpoint)
    for layer in vae.decoder.modules():
        layer.__dict__.pop("forward", None)
    vae.eval().requires_grad_(False)


def _one_frame(decoder: nn.Module) -> None:
    """Has the convolutions over time see the one frame alone, which is faster, and zeroes what saw those before."""
    for layer in decoder.modules():
        if isinstance(layer, nn.Conv3d):
            with torch.no_grad():
                layer.weight[:, :, :-1] = 0

            def forward(x: Tensor, cache: None = None, layer: nn.Conv3d = layer) -> Tensor:
                side = layer.weight.shape[-1] // 2
                return F.conv2d(x[:, :, 0], layer.weight[:, :, -1], layer.bias, padding=side).unsqueeze(2)

            layer.forward = forward
