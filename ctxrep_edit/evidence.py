"""What checks look at: edits moved back onto their source, and where each of them was edited."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ctxrep_edit.alignment import Motion, find_motion, move, move_back
from ctxrep_edit.explaining import unexplained
from ctxrep_edit.restoring import opacity

CHANGE = 0.05  # mean absolute difference of the channels, in [0, 1], from which a pixel counts as edited
FAINT = 0.03  # the same, for telling an edit of the whole picture from one of a part
GLOBAL = 0.60  # share of pixels that differ by FAINT from which an edit is one of the whole picture
GROW = 0.015  # of the short side: by how much a region is grown

Where = Literal["mask", "estimated", "whole"]


@dataclass(frozen=True)
class Evidence:
    """The edits of a set beside their source, ready to be measured. n edits of h x w pixels.

    source: (1, 3, h, w) in [0, 1]. motions: one per edit.
    edits: (n, 3, h, w), moved back where they had come back shifted or zoomed, and restored where that was asked.
    untouched: (n, 3, h, w), what an edit that changed nothing would look like: the source through the pipeline's
        autoencoder, and moved there and back as the edit was; the source itself where edits are restored.
    where: whether the caller's mask says where the edit was allowed, or it was estimated; or whether it is an edit of
        the whole picture.
    regions: bool (n, h, w), where each was edited; all True for the whole.
    seen: bool (n, h, w), False where moving back left the border without pixels.
    """

    source: Tensor
    motions: list[Motion]
    edits: Tensor
    untouched: Tensor
    where: Where
    regions: Tensor
    seen: Tensor

    @cached_property
    def unexplained(self) -> Tensor:
        """What of each edit is not one local operation on its source: (n, h, w), see `explaining.unexplained`."""
        return torch.stack([unexplained(*pair) for pair in zip(self.untouched, self.edits, strict=True)])

    @property
    def outside(self) -> Tensor:
        """Where each edit should have kept the source: bool (n, h, w); for an edit of the whole picture, all of it."""
        return (~self.regions | (self.where == "whole")) & self.seen


def gather(
    source: Tensor,
    edits: Tensor,
    round_trip: Callable[[], Tensor],
    mask: Tensor | None = None,
    *,
    restore: bool = False,
) -> Evidence:
    """Registers the edits, then takes their regions from the mask, bool (h, w), or estimates them.

    source: (1, 3, h, w), edits: (n, 3, h, w), both in [0, 1]; round_trip makes (1, 3, h, w). restore: puts the source
    back outside the regions.
    """
    motions = [find_motion(source[0], edit) for edit in edits]
    trip = round_trip()
    seen = torch.ones(len(edits), *edits.shape[2:], dtype=torch.bool)  # (n, h, w)
    aligned, untouched = edits.clone(), trip.repeat(len(edits), 1, 1, 1)
    for i, motion in enumerate(motions):
        if motion:
            aligned[i], seen[i] = move_back(edits[i], motion)
            untouched[i], _ = move_back(move(trip[0], motion), motion)
    if mask is None:
        regions, whole = estimate_regions(torch.where(seen[:, None], aligned, untouched), untouched)
    else:
        regions, whole = mask.expand(len(edits), -1, -1), bool(mask.all())
    where: Where = "whole" if whole else "estimated" if mask is None else "mask"
    if restore and not whole:
        shown = torch.stack([opacity(region & there) for region, there in zip(regions, seen, strict=True)])[:, None]
        aligned, untouched = source + shown * (aligned - source), source.expand_as(aligned)
    return Evidence(source, motions, aligned, untouched, where, regions, seen)


def estimate_regions(edits: Tensor, untouched: Tensor) -> tuple[Tensor, bool]:
    """Where each edit differs from the untouched source, bool (n, h, w), and whether that is the whole picture.

    edits: (n, 3, h, w), untouched: (n or 1, 3, h, w), both in [0, 1]. Whether an instruction edits the whole picture or
    a part is decided over the set, by the median of how much of the picture each edit changes even faintly: one edit
    that drifts does not make it an edit of the whole. In an edit of a part, each edit's region is where it differs
    clearly, and at least by twice what seven tenths of its pixels exceed, so that a drift everywhere stays outside.
    """
    difference = (edits - untouched).abs().mean(1, keepdim=True)  # (n, 1, h, w)
    smooth = F.avg_pool2d(difference, 3, 1, 1, count_include_pad=False)
    faint = (smooth > FAINT).float().mean((1, 2, 3))  # (n,)
    if float(faint.quantile(0.5)) >= GLOBAL:
        return torch.ones_like(smooth[:, 0], dtype=torch.bool), True
    order = smooth.flatten(1).sort(1).values  # (n, h w)
    drift = order[:, round(0.3 * (order.shape[1] - 1))]  # (n,)
    changed = (smooth > (2 * drift).clamp_min(CHANGE)[:, None, None, None]).float()
    grow = max(1, round(GROW * min(edits.shape[-2:])))
    return F.max_pool2d(changed, 2 * grow + 1, 1, grow)[:, 0] > 0, False
