"""Training pairs, made once: latents of photographs and of their edits, with the phrase that asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ctxrep_plugins.nano import text, world
from ctxrep_plugins.nano.training.checkpoints import keep
from ctxrep_plugins.nano.world import photos
from diffusers import AutoencoderTiny
from torch import Tensor

SHARE = (0.5, 0.125, 0.125, 0.125, 0.125)  # of each bucket
EDITS = {
    "sticker": 0.25,
    "frame": 0.15,
    "light": 0.10,
    "style": 0.15,
    "recolour": 0.10,
    "weather": 0.25,
}  # of all pairs
EVEN = 0.4  # share of the pairs, and of each batch, whose answers are drawn evenly
CHUNK = 128


@dataclass(frozen=True)
class Batch:
    """Latents of sources and targets, each (n, 16, h, w) float32, and indices of phrases, (n,).

    even: bool (n,), whether the answer was drawn evenly among the right ones, and not as often as it is typical.
    """

    source: Tensor
    target: Tensor
    phrase: Tensor
    even: Tensor


def on(device: torch.device, batch: Any) -> Any:
    """A dataclass of tensors, on `device`."""
    return replace(batch, **{field.name: getattr(batch, field.name).to(device) for field in fields(batch)})


class Pairs:
    """`count` pairs, in buckets of one size each; made once and kept in `folder`."""

    def __init__(
        self, pictures: Sequence[np.ndarray], vae: AutoencoderTiny, count: int, folder: Path, seed: int,
        sizes: Sequence[tuple[int, int]] = photos.BUCKETS,
    ):  # fmt: skip
        """sizes: the first of `photos.BUCKETS`, as many as the model knows."""
        self.buckets: list[Batch] = []
        for index, (bucket, share) in enumerate(zip(sizes, SHARE, strict=False)):
            file = folder / f"pairs-{seed}-{count}-{index}.pt"
            if not file.exists():
                made = _make(pictures, vae, int(count * share), bucket, np.random.default_rng([seed, 3, index]))
                keep(made, file)
            self.buckets.append(Batch(*torch.load(file, weights_only=True, mmap=True)))

    def batch(self, size: int, rng: np.random.Generator) -> Batch:
        """`size` pairs of one bucket, the evenly drawn ones last."""
        shares = np.array(SHARE[: len(self.buckets)])
        bucket = self.buckets[rng.choice(len(shares), p=shares / shares.sum())]
        evenly = bucket.even.nonzero()[:, 0].numpy()
        usual = (~bucket.even).nonzero()[:, 0].numpy()
        count = round(size * EVEN)
        drawn = np.concatenate([rng.choice(usual, size - count), rng.choice(evenly, count)])
        rows = torch.from_numpy(drawn)
        return Batch(
            bucket.source[rows].float(), bucket.target[rows].float(), bucket.phrase[rows].long(), bucket.even[rows]
        )


def drawn_request(rng: np.random.Generator) -> world.Request:
    """Of an edit as often as `EDITS` says, pinned or open."""
    number = rng.choice(len(EDITS), p=[EDITS[edit.name] for edit in world.EDITS])
    choices = _requests(number, bool(rng.random() < 0.5))
    return choices[rng.integers(len(choices))]


@cache
def _requests(number: int, pinned: bool) -> list[world.Request]:
    return list(world.requests(world.EDITS[number], pinned))


def latents_of(pictures: Sequence[np.ndarray], vae: AutoencoderTiny) -> Tensor:
    """Pictures of one size, (h, w, 3) in [0, 1], as the transformer is given them: (n, 16, h / 4, w / 4)."""
    x = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) * 2 - 1
    latents: Tensor = vae.encode(x.to(vae.device)).latents * vae.config.scaling_factor
    return latents


@torch.no_grad()
def _make(
    pictures: Sequence[np.ndarray],
    vae: AutoencoderTiny,
    count: int,
    bucket: tuple[int, int],
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    index_of = {phrase: i for i, phrase in enumerate(text.corpus())}
    sources, targets, phrases, evens = [], [], [], []
    for _ in range(0, count, CHUNK):
        pairs = []
        for _ in range(CHUNK):
            request = drawn_request(rng)
            picture = photos.augment(photos.busy_crop(pictures, bucket, rng), rng)
            even = bool(rng.random() < EVEN)
            answer = request.edit.draw(request.pins, rng, even)
            pairs.append((picture, world.render(request.edit, picture, answer)))
            evens.append(even)
            phrases.append(index_of[request.text])
        for side, out in enumerate((sources, targets)):
            out.append(latents_of([pair[side] for pair in pairs], vae).half().cpu())
    return torch.cat(sources), torch.cat(targets), torch.tensor(phrases, dtype=torch.int16), torch.tensor(evens)
