"""Is what was not asked for still there? LPIPS outside the edited region, against what the autoencoder alone loses."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ctxrep_edit.contracts import Verdict
from ctxrep_edit.perceptual import distances

CHANGE = 0.05  # mean absolute difference of the channels, in [0, 1], from which a pixel counts as edited
GLOBAL = 0.60  # share of edited pixels from which an edit is one of the whole picture
MARGIN = 0.05  # LPIPS that an edit may lose outside its region beyond the autoencoder's round trip
GLOBAL_BOUND = 0.80  # LPIPS to the source beyond which even an edit of the whole picture has lost it

Region = Literal["mask", "estimated", "whole"]


def estimate_region(edits: Tensor, round_trip: Tensor) -> Tensor:
    """Where each edit differs from the round trip of its source: bool (n, h, w), grown by 3 % of the short side.

    edits: (n, 3, h, w) in [0, 1]; round_trip: (1, 3, h, w) in [0, 1].
    """
    difference = (edits - round_trip).abs().mean(1, keepdim=True)  # (n, 1, h, w)
    smooth = F.avg_pool2d(difference, 3, 1, 1, count_include_pad=False)
    changed = (smooth > CHANGE).float()
    grow = max(1, round(0.03 * min(edits.shape[-2:])))
    return F.max_pool2d(changed, 2 * grow + 1, 1, grow)[:, 0] > 0


def assess(
    source: Tensor, edits: Tensor, round_trip: Tensor, mask: Tensor | None = None, *, first_is_plain: bool = False
) -> list[Verdict]:
    """One verdict per edit.

    source, round_trip: (1, 3, h, w) in [0, 1]; edits: (n, 3, h, w) in [0, 1]; mask: bool (h, w), True where the edit
        was allowed. first_is_plain: whether the first edit is the unrepelled one, which then is a second
        measure: what it loses, the others may lose.
    details of each: region, where the edit was allowed: the caller's "mask", "estimated" from the edit, or the "whole"
        picture; floor, the same LPIPS for the autoencoder's round trip of the source.
    Distances are means of the spatial LPIPS map (Zhang et al. 2018) over the region's outside. The source is pasted
    into the region first: AlexNet sees far, and on small pictures the edit itself would count all over the outside.
    """
    regions = estimate_region(edits, round_trip) if mask is None else mask.expand(len(edits), -1, -1)  # (n, h, w)
    whole = regions.float().mean((1, 2)) >= (GLOBAL if mask is None else 1.0)  # (n,)
    outside = ~regions | whole[:, None, None]  # (n, h, w)
    maps = distances(torch.where(outside[:, None], edits, source), source)  # (n, h, w)
    floors = distances(torch.where(outside[:, None], round_trip, source), source)  # (n, h, w)
    values = [float(maps[i][outside[i]].mean()) for i in range(len(edits))]
    plain = values[0] if first_is_plain and not whole[0] else None
    verdicts = []
    for i, value in enumerate(values):
        region: Region = "whole" if whole[i] else "estimated" if mask is None else "mask"
        floor = float(floors[i][outside[i]].mean())
        verdicts.append(_verdict(region, value, floor, plain if i else None))
    return verdicts


def _verdict(region: Region, value: float, floor: float, plain: float | None) -> Verdict:
    details = {"region": region, "floor": floor}
    if region == "whole":
        kept = value <= GLOBAL_BOUND
        how = "keeps within" if kept else "is beyond"
        reason = f"an edit of the whole picture has no outside; its LPIPS of {value:.3f} {how} {GLOBAL_BOUND:.2f}"
        return Verdict(kept, "LPIPS to the source", value, GLOBAL_BOUND, reason, details)
    bound, why = floor + MARGIN, f"round trip {floor:.3f} + {MARGIN:.2f}"
    if plain is not None and plain > bound:
        bound, why = plain, "what the plain edit loses"
    kept = value <= bound
    reason = f"LPIPS outside the edit is {value:.3f}, {'within' if kept else 'over'} {bound:.3f} ({why})"
    return Verdict(kept, "LPIPS outside the edit", value, bound, reason, details)
