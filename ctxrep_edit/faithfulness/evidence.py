"""What checks look at: edits moved back onto their source, and where each of them was edited."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from ctxrep_edit.faithfulness.regions import clearly_changed, differences, enlarged, estimate_regions, view_scale
from ctxrep_edit.faithfulness.registration import Motion, Still, find_motion, move, move_back
from ctxrep_edit.faithfulness.residuals import Explainer
from ctxrep_edit.faithfulness.restoration import opacity

Where = Literal["mask", "estimated", "whole"]


@dataclass(frozen=True)
class Evidence:
    """The edits of a set beside their source, ready to be measured. n edits of h x w pixels.

    source: (1, 3, h, w) in [0, 1]. motions: one per edit.
    edits: (n, 3, h, w), moved back where they had come back moved, and restored where that was asked.
    untouched: (n, 3, h, w), what an edit that changed nothing would look like: the source through the pipeline's
        autoencoder, and moved there and back as the edit was; the source itself where edits are restored.
    where: whether the caller's mask says where the edit was allowed, or it was estimated; or whether it is an edit of
        the whole picture.
    regions: bool (n, h, w), where each was edited; all True for the whole.
    seen: bool (n, h, w), False where moving back left the border without pixels, or an edit was cropped.
    changes: (n, h', w') in [0, 1], by how much each edit differs from an untouched one, before anything was restored:
        the mean absolute difference of the channels, each averaged over 3 x 3 pixels, of pictures brought down to a
        short side of 160 pixels (see `scale`); 0 where it is not seen.
    changed: bool (n, h', w'), where that is clear, also outside a mask; all True for the whole picture.
    """

    source: Tensor
    motions: list[Motion]
    edits: Tensor
    untouched: Tensor
    where: Where
    regions: Tensor
    seen: Tensor
    changes: Tensor
    changed: Tensor

    @cached_property
    def unexplained(self) -> Tensor:
        """What of each edit is not one local operation on its source: (n, h', w'), see `residuals.unexplained`."""
        explainers: list[Explainer] = []
        for untouched in self.untouched:  # mostly the same one
            known = explainers and torch.equal(explainers[-1].source, untouched)
            explainers.append(explainers[-1] if known else Explainer(untouched))
        return torch.stack([one.unexplained(edit) for one, edit in zip(explainers, self.edits, strict=True)])

    @property
    def scale(self) -> float:
        """To what share of its sides a picture is brought down to be seen small; `brought_down` takes it."""
        return view_scale(*self.edits.shape[2:])

    @property
    def outside(self) -> Tensor:
        """Where each edit should have kept the source: bool (n, h, w); for an edit of the whole picture, all of it."""
        return (~self.regions | (self.where == "whole")) & self.seen


@dataclass(frozen=True)
class Placed:
    """One edit, (3, h, w), moved back onto its source; what an untouched edit would look like there; and where it has
    pixels, bool (h, w)."""

    motion: Motion
    edit: Tensor
    untouched: Tensor
    seen: Tensor


class Register:
    """Lays edits onto their source: each once, and what that needs of the source once for all of them.

    source, trip: (1, 3, h, w) in [0, 1], the latter through the pipeline's autoencoder. allowed: bool (h, w), where
    the edit is not compared; None: nowhere.
    """

    def __init__(self, source: Tensor, trip: Tensor, allowed: Tensor | None = None) -> None:
        self.source, self.trip, self.allowed = source, trip, allowed
        self._still = Still(source[0])
        self._placed: dict[int, Placed] = {}

    def place(self, i: int, edit: Tensor, shown: Tensor) -> Placed:
        """Edit number i, (3, h, w) in [0, 1]. shown: bool (h, w), where it has pixels."""
        if i not in self._placed:
            self._placed[i] = self._place(edit, shown)
        return self._placed[i]

    def _place(self, edit: Tensor, shown: Tensor) -> Placed:
        motion = find_motion(self._still, edit, self.allowed)
        if not motion:
            return Placed(motion, edit, self.trip[0], shown)
        back, seen = move_back(edit, motion)
        if not shown.all():
            seen &= move_back(shown.float()[None], motion)[0][0] > 0.99
        return Placed(motion, back, move_back(move(self.trip[0], motion), motion)[0], seen)

    def without(self, again: Sequence[int]) -> Register:
        """The same, in which the edits of these numbers are not known yet."""
        other = copy.copy(self)
        other._placed = {i: placed for i, placed in self._placed.items() if i not in again}
        return other


def gather(
    register: Register, edits: Tensor, mask: Tensor | None = None, shown: Tensor | None = None, *, restore: bool = False
) -> Evidence:
    """Registers the edits, then takes their regions from the mask, bool (h, w), or estimates them.

    edits: (n, 3, h, w) in [0, 1]. shown: bool (n, h, w), where they have pixels; None: everywhere. restore: puts the
    source back outside the regions.
    """
    shown = torch.ones_like(edits[:, 0], dtype=torch.bool) if shown is None else shown
    placed = [register.place(i, edit, there) for i, (edit, there) in enumerate(zip(edits, shown, strict=True))]
    source, motions = register.source, [one.motion for one in placed]
    aligned, untouched, seen = (torch.stack([getattr(one, x) for one in placed]) for x in ("edit", "untouched", "seen"))
    found = differences(torch.where(seen[:, None], aligned, untouched), untouched)
    if mask is None:
        changed, whole = estimate_regions(found, untouched)
        regions = enlarged(changed, *edits.shape[2:])
    else:
        regions, whole = mask.expand(len(edits), -1, -1), bool(mask.all())
        changed = torch.ones_like(found, dtype=torch.bool) if whole else clearly_changed(found, untouched)
    where: Where = "whole" if whole else "estimated" if mask is None else "mask"
    if restore and not whole:
        visible = torch.stack([opacity(region & there) for region, there in zip(regions, seen, strict=True)])[:, None]
        aligned, untouched = source + visible * (aligned - source), source.expand_as(aligned)
    return Evidence(source, motions, aligned, untouched, where, regions, seen, found, changed)
