"""The strict judge: an edit is right if it is one of the right answers, whole, and nothing else moved.

Every right answer is computed exactly and sent through the model's own autoencoder, which no latent model can beat. An
edit is compared with each of them inside and outside the region that the answer changes, as a whole and patch by patch:
half a sticker, a second sticker, a broken frame or a shifted picture fail. Pictures of a model that shows each pixel of
the world as a square of many are averaged first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from ctxrep_plugins.nano.world import Answer, Edit, Picture, render
from ctxrep_plugins.nano.world.photos import BUCKETS
from diffusers import AutoencoderTiny
from torch import Tensor

from ctxrep_edit import load_pipeline, round_trip

INSIDE = 0.09  # root mean square error that is allowed inside the region, of values in [0, 1]
OUTSIDE = 0.05  # the same outside
PATCH = 8  # pixels: side of the patches
INSIDE_PATCH = 0.22  # the same in the worst patch that the edit changes
OUTSIDE_PATCH = 0.12  # the same in the worst patch that it does not


@dataclass(frozen=True)
class Ruling:
    """The nearest answer, the distance to it (1 is the limit), and where it changes the picture, bool (h, w)."""

    answer: Answer
    error: float
    region: Tensor

    @property
    def right(self) -> bool:
        return self.error <= 1


class Judge:
    """Knows every answer to one edit of one picture, as the pipeline's autoencoder would show it."""

    def __init__(self, edit: Edit, picture: Picture, pipeline: Any) -> None:
        self.answers = edit.answers
        targets = np.stack([render(edit, picture, answer) for answer in self.answers])
        exact = torch.from_numpy(targets).permute(0, 3, 1, 2)  # (k, 3, h, w)
        source = torch.from_numpy(picture).permute(2, 0, 1)[None]  # (1, 3, h, w)
        self.targets = _shown(pipeline, exact)  # (k, 3, h, w)
        changed = ((exact - source).abs().amax(1, keepdim=True) > 1 / 255).float()
        self.regions = F.max_pool2d(changed, 3, 1, 1)  # (k, 1, h, w)

    def __call__(self, image: Tensor) -> Ruling:
        """Rules on `image`, (3, h, w) in [0, 1], of the world's size."""
        error = (image - self.targets).square().mean(1, keepdim=True)  # (k, 1, h, w)
        inside, outside = self.regions, 1 - self.regions
        worst = torch.stack(
            [
                _share(error, inside) / INSIDE,
                _share(error, outside) / OUTSIDE,
                _worst_patch(error, inside) / INSIDE_PATCH,
                _worst_patch(error, outside) / OUTSIDE_PATCH,
            ]
        ).amax(0)  # (k,) 1 is the limit
        best = int(worst.argmin())
        return Ruling(self.answers[best], float(worst[best]), self.regions[best, 0] > 0)


def of_the_world(pictures: Tensor) -> Tensor:
    """Pictures, (n, 3, zoom * h, zoom * w), at a size of the world's, (n, 3, h, w); as they are where they fit none."""
    height, width = pictures.shape[-2:]
    zoom = next((height // h for h, w in BUCKETS if height % h == 0 and height * w == width * h), 1)
    return F.avg_pool2d(pictures, zoom)


def _shown(pipeline: Any, exact: Tensor) -> Tensor:
    """Pictures of the world as the autoencoder shows them, both (k, 3, h, w). That of qwen-nano takes a megapixel:
    the one that it was taught to follow stands in."""
    if not isinstance(pipeline.vae, AutoencoderTiny):
        pipeline = load_pipeline("kontext-nano", progress=False)
    return round_trip(pipeline, exact)


def _share(error: Tensor, where: Tensor) -> Tensor:
    """Root mean square error over `where`, (k,); 0 where it is empty."""
    return ((error * where).sum((1, 2, 3)) / where.sum((1, 2, 3)).clamp_min(1)).sqrt()


def _worst_patch(error: Tensor, where: Tensor) -> Tensor:
    """The largest root mean square error over `where` within one patch, (k,); small overlaps count for less."""
    summed = F.avg_pool2d(error * where, PATCH)  # (k, 1, h / 8, w / 8)
    return summed.sqrt().flatten(1).amax(1)
