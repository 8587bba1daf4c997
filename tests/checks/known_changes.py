"""The default checks asked about a photograph whose changes are known: a part painted, and what can go wrong."""

from __future__ import annotations

from typing import Any

import skimage.data
import torch
from ctxrep_plugins.checks import CHECKS
from PIL import Image
from torch import Tensor

from ctxrep_edit import Case, Verdict, to_tensor
from ctxrep_edit.faithfulness.registration import Motion, move

SIDE = 64
INSIDE = torch.zeros(SIDE, SIDE, dtype=torch.bool)
INSIDE[4:28, 4:28] = True
PHOTO = Image.fromarray(skimage.data.astronaut()).resize((SIDE, SIDE), Image.Resampling.BOX)
SOURCE = to_tensor(PHOTO)  # (1, 3, h, w)
ROUND_TRIP = (SOURCE * 0.98 + 0.01).clamp(0, 1)


def painted(where: Tensor) -> Tensor:
    """The round trip with a part of it painted red."""
    return torch.where(where, torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1), ROUND_TRIP)


def case(
    edits: Tensor, mask: Tensor | None = None, plain: bool = False, trip: Tensor = ROUND_TRIP, **more: Any
) -> Case:
    return Case(SOURCE, edits, mask, "paint it", plain, lambda: trip, **more)


def judged(given: Case) -> list[dict[str, Verdict]]:
    said = {check.name: check().verdicts(given) for check in CHECKS}
    return [{name: verdicts[i] for name, verdicts in said.items()} for i in range(len(given.edits))]


def objections(given: Case) -> list[set[str]]:
    """Of each edit, the checks that object; of `preservation`, the measures that are beyond their bounds."""
    found = []
    for said in judged(given):
        names = {name for name, verdict in said.items() if verdict.objects} - {"preservation"}
        measures = said["preservation"].details.get("measures", {})
        found.append(names | {name for name, one in measures.items() if not one["kept"]})
    return found


def noisy(picture: Tensor, sigma: float) -> Tensor:
    noise = torch.randn(picture.shape, generator=torch.Generator().manual_seed(0))
    return (picture + sigma * noise).clamp(0, 1)


EDIT = painted(INSIDE)
CORNER = torch.zeros_like(INSIDE)
CORNER[40:60, 40:60] = True
TINT = torch.tensor([0.1, 0.0, -0.1]).view(1, 3, 1, 1)
WRONG = {
    "cast": ((EDIT + TINT).clamp(0, 1), {"loss", "colour"}),
    "noise": (noisy(EDIT, 0.12), {"loss"}),
    "shift": (move(EDIT[0], Motion(3, -2, 1.0, 4))[None], {"alignment"}),
    "object": (torch.where(CORNER, EDIT.flip(2), EDIT), {"spots"}),
}
