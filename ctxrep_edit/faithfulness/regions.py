"""Where an edit was made, estimated from how it differs from its source."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CHANGE = 0.05  # difference, in [0, 1], see `differences`, from which a pixel counts as edited
FAINT = 0.03  # the same, for telling an edit of the whole picture from one of a part
GLOBAL = 0.60  # share of pixels that differ by FAINT from which an edit is one of the whole picture
GROW = 0.015  # of the short side: by how much a region is grown


def differences(edits: Tensor, untouched: Tensor) -> Tensor:
    """By how much each edit differs from the untouched source: (n, h, w) in [0, 1].

    The mean absolute difference of the channels, each averaged over 3 x 3 pixels first: fine detail that an autoencoder
    has lost or invented is no difference. edits: (n, 3, h, w), untouched: (n or 1, 3, h, w), both in [0, 1].
    """
    return F.avg_pool2d(edits - untouched, 3, 1, 1, count_include_pad=False).abs().mean(1)


def estimate_regions(changes: Tensor) -> tuple[Tensor, bool]:
    """Where each edit differs from the untouched source, bool (n, h, w), and whether that is the whole picture.

    changes: (n, h, w), see `differences`. Whether an instruction edits the whole picture or
    a part is decided over the set, by the median of how much of the picture each edit changes even faintly: one edit
    that drifts does not make it an edit of the whole. In an edit of a part, each edit's region is where it differs
    clearly, and at least by twice what seven tenths of its pixels exceed, so that a drift everywhere stays outside.
    """
    faint = (changes > FAINT).float().mean((1, 2))  # (n,)
    if float(faint.quantile(0.5)) >= GLOBAL:
        return torch.ones_like(changes, dtype=torch.bool), True
    order = changes.flatten(1).sort(1).values  # (n, h w)
    drift = order[:, round(0.3 * (order.shape[1] - 1))]  # (n,)
    changed = (changes > (2 * drift).clamp_min(CHANGE)[:, None, None]).float()[:, None]
    grow = max(1, round(GROW * min(changes.shape[1:])))
    return F.max_pool2d(changed, 2 * grow + 1, 1, grow)[:, 0] > 0, False
