"""Training pairs, made once: latents of photographs and of their edits, with the phrase that asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from ctxrep_plugins.nano import photos, text, world
from diffusers import AutoencoderTiny
from torch import Tensor

SHARE = (0.5, 0.125, 0.125, 0.125, 0.125)  # of each bucket
EDITS = {
    "sticker": 0.25,
    "frame": 0.13,
    "light": 0.13,
    "style": 0.22,
    "recolour": 0.13,
    "weather": 0.14,
}  # of all pairs
CHUNK = 128


class Pairs:
    """`count` pairs: per bucket the latents (m, 16, h, w) of sources and targets and the phrases' indices (m,)."""

    def __init__(self, pictures: Sequence[np.ndarray], vae: AutoencoderTiny, count: int, folder: Path, seed: int):
        self.buckets: list[tuple[Tensor, Tensor, Tensor]] = []
        for index, (bucket, share) in enumerate(zip(photos.BUCKETS, SHARE, strict=True)):
            file = folder / f"pairs-{seed}-{count}-{index}.pt"
            if not file.exists():
                made = _make(pictures, vae, int(count * share), bucket, np.random.default_rng([seed, 3, index]))
                torch.save(made, file.with_suffix(".part"))
                file.with_suffix(".part").replace(file)
            self.buckets.append(torch.load(file, weights_only=True, mmap=True))

    def batch(self, size: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Source and target latents (size, 16, h, w) float32 and phrase indices (size,), all of one bucket."""
        source, target, phrase = self.buckets[rng.choice(len(SHARE), p=SHARE)]
        rows = torch.from_numpy(rng.integers(len(phrase), size=size))
        return source[rows].float(), target[rows].float(), phrase[rows].long()


@torch.no_grad()
def _make(
    pictures: Sequence[np.ndarray],
    vae: AutoencoderTiny,
    count: int,
    bucket: tuple[int, int],
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    index_of = {phrase: i for i, phrase in enumerate(text.corpus())}
    by_edit = [{pinned: list(world.requests(edit, pinned)) for pinned in (False, True)} for edit in world.EDITS]
    shares = [EDITS[edit.name] for edit in world.EDITS]
    sources, targets, phrases = [], [], []
    for _ in range(0, count, CHUNK):
        pairs = []
        for _ in range(CHUNK):
            choices = by_edit[rng.choice(len(by_edit), p=shares)][bool(rng.random() < 0.5)]
            request = choices[rng.integers(len(choices))]
            picture = photos.augment(photos.crop(pictures, bucket, rng), rng)
            pairs.append((picture, world.render(request.edit, picture, request.edit.draw(request.pins, rng))))
            phrases.append(index_of[request.text])
        for side, out in enumerate((sources, targets)):
            x = torch.from_numpy(np.stack([pair[side] for pair in pairs])).permute(0, 3, 1, 2) * 2 - 1
            out.append((vae.encode(x).latents * vae.config.scaling_factor).half())
    return torch.cat(sources), torch.cat(targets), torch.tensor(phrases, dtype=torch.int16)
