"""Trains the autoencoder that the embedded models share.

The encoder is fitted in closed form: the principal components of 4 x 4 patches, written into its convolutions. So an
edit that is affine in pixels is affine in latents, and only the decoder is trained.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from ctxrep_plugins.nano import world
from ctxrep_plugins.nano.models.autoencoder import CHANNELS, WIDTH
from ctxrep_plugins.nano.training.checkpoints import keep_decoder, taken_up
from ctxrep_plugins.nano.world import photos
from diffusers import AutoencoderTiny
from torch import Tensor

RAW_SCALE = 0.5  # root mean square of the raw latents, well inside the decoder's soft clamp at 3
BATCH = 32
PEAK_RATE = 2e-3
EVERY = 100  # steps from checkpoint to checkpoint


def batch(pictures: Sequence[np.ndarray], rng: np.random.Generator) -> Tensor:
    """Augmented crops, a third of them edited: (BATCH, 3, h, w) in [-1, 1]."""
    bucket = photos.BUCKETS[0] if rng.random() < 0.5 else photos.BUCKETS[rng.integers(1, len(photos.BUCKETS))]
    out = []
    for _ in range(BATCH):
        picture = photos.augment(photos.crop(pictures, bucket, rng), rng)
        if rng.random() < 0.35:
            edit = world.EDITS[rng.integers(len(world.EDITS))]
            picture = world.render(edit, picture, edit.answers[rng.integers(len(edit.answers))])
        out.append(picture)
    return torch.from_numpy(np.stack(out)).permute(0, 3, 1, 2) * 2 - 1


def patches(x: Tensor) -> Tensor:
    """Every 4 x 4 patch of (n, 3, h, w) as the encoder's strided convolutions order it: (patches, 48)."""
    halves = F.pixel_unshuffle(x, 2)  # (n, 12, h/2, w/2), channel c * 4 + dy * 2 + dx
    return F.pixel_unshuffle(halves, 2).permute(0, 2, 3, 1).reshape(-1, WIDTH)


@torch.no_grad()
def fit_encoder(vae: AutoencoderTiny, pictures: Sequence[np.ndarray], seed: int) -> None:
    """Writes the principal components of patches into the encoder; each is divided by the root of its deviation."""
    sample = [patches((batch(pictures, np.random.default_rng([seed, 1, i])) + 1) / 2) for i in range(64)]
    x = torch.cat(sample).double()
    mean = x.mean(0)
    variance, vectors = torch.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    variance, vectors = variance.flip(0)[:CHANNELS], vectors.flip(1)[:, :CHANNELS]
    deviation = variance.sqrt()  # (16,)
    gain = RAW_SCALE / deviation.mean().sqrt() / deviation.sqrt()
    components = (vectors * gain).T  # (16, 48)

    first, half, quarter, last = vae.encoder.layers
    for parameter in vae.encoder.parameters():
        parameter.zero_().requires_grad_(False)
    for channel in range(3):
        first.weight[channel, channel, 1, 1] = 1
    for convolution, channels in ((half, 3), (quarter, 12)):
        for channel in range(channels):
            for dy in range(2):
                for dx in range(2):  # a stride-2 window of 3 x 3 padded by 1 starts one pixel early
                    convolution.weight[channel * 4 + dy * 2 + dx, channel, dy + 1, dx + 1] = 1
    last.weight[:, :, 1, 1] = components.float()
    last.bias.copy_((-components @ mean).float())
    vae.register_to_config(scaling_factor=1 / RAW_SCALE, shift_factor=0.0)


def rate(step: int, steps: int) -> float:
    """Share of the peak learning rate: up for 100 steps or a twentieth, level, and from 65 % on straight to 0."""
    return min((step + 1) / min(100, 0.05 * steps), 1.0, (steps - step) / (0.35 * steps))


def train_decoder(
    vae: AutoencoderTiny, pictures: Sequence[np.ndarray], checkpoint: Path, steps: int, seed: int
) -> None:
    """Trains the decoder for `steps`, resuming from `checkpoint`; the same seed gives the same weights."""
    decoder = vae.decoder.to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(decoder.parameters(), PEAK_RATE, weight_decay=0.0, betas=(0.9, 0.98))
    start = taken_up(vae, optimiser, checkpoint)
    began = time.monotonic()
    for step in range(start, steps):
        x = batch(pictures, np.random.default_rng([seed, 2, step])).to(vae.device)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        for group in optimiser.param_groups:
            group["lr"] = PEAK_RATE * rate(step, steps)
        with torch.no_grad():
            z = vae.encode(x).latents
            spread = 0.06 * RAW_SCALE * torch.rand((len(z), 1, 1, 1), generator=generator)
            moved = (spread * torch.randn(z.shape, generator=generator)).to(z.device)
            z = (z + moved).contiguous(memory_format=torch.channels_last)
        mixed = step < 0.8 * steps  # the last digits need float32
        with torch.autocast(vae.device.type, torch.bfloat16, enabled=mixed):
            y = vae.decode(z).sample.float()
        error = (y - x).square().mean((1, 2, 3))  # (batch,)
        loss = (error + 1e-4).log().mean() * 0.01 + F.l1_loss(y, x) + 2 * error.mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimiser.step()
        if (step + 1) % EVERY == 0 or step == steps - 1:
            decibel = float(10 * torch.log10(4 / error.detach()).mean())
            print(f"decoder {step + 1}/{steps}  {decibel:.2f} dB  {time.monotonic() - began:.0f} s", flush=True)
            keep_decoder(vae, optimiser, step + 1, checkpoint)
    vae.eval().requires_grad_(False)


@torch.no_grad()
def decibels(vae: AutoencoderTiny, pictures: Sequence[np.ndarray], count: int, seed: int = 0) -> Tensor:
    """Peak signal-to-noise ratio of the round trip on `count` crops of 64 x 64, (count,) in dB."""
    rng = np.random.default_rng(seed)
    crops = np.stack([photos.crop(pictures, photos.BUCKETS[0], rng) for _ in range(count)])
    x = torch.from_numpy(crops).permute(0, 3, 1, 2) * 2 - 1
    y = vae.decode(vae.encode(x).latents).sample.clamp(-1, 1)
    return 10 * torch.log10(4 / (y - x).square().mean((1, 2, 3)))
