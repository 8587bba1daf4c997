"""What the default checks say of labelled edits, each judged alone: without a mask, and with its boxes as the mask."""

from __future__ import annotations

import io
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from ctxrep_plugins.bench.real.labels import Pair
from PIL import Image

from ctxrep_edit import EditSet, InputError, assess

QUALITY = 85  # of the JPEG that an edit is in which nothing was done
Given = Literal["no mask", "mask"]


@dataclass(frozen=True)
class Judged:
    """One pair, judged. by: the checks that object; None where the pair was refused. told: "local" or "global", what
    the estimated region says. outside, inside: shares of what lies outside the boxes that was taken into the region,
    and of what changed inside them; None with a mask. frame: whether the aspect was found changed. empty: whether the
    source itself, as a JPEG, was found empty."""

    pair: Pair
    given: Given
    by: tuple[str, ...] | None
    edits: EditSet | None = None
    told: str = ""
    outside: float | None = None
    inside: float | None = None
    frame: bool = False
    empty: bool = False
    seconds: float = 0.0

    @property
    def flagged(self) -> bool:
        return self.by is None or bool(self.by)

    @property
    def right(self) -> bool:
        """Whether the verdict is that of the label."""
        return self.by is not None and self.flagged != self.pair.kept


def measure(pairs: Iterable[Pair]) -> list[Judged]:
    """Each pair without a mask; those that have boxes also with these as the mask."""
    found = []
    for pair in pairs:
        found.append(_judged(pair, "no mask"))
        if pair.boxes:
            found.append(_judged(pair, "mask"))
    return found


def _judged(pair: Pair, given: Given) -> Judged:
    mask = pair.mask() if given == "mask" else None
    start = time.perf_counter()
    try:
        edits = assess(pair.source, [pair.edit], mask=mask, instruction=pair.instruction)
    except InputError:
        return Judged(pair, given, None)
    seconds = time.perf_counter() - start
    (edit,) = edits
    by = tuple(name for name, verdict in edit.verdicts.items() if verdict.objects)
    details = next(iter(edit.verdicts.values())).details
    frame = next((said.details["frame"] for said in edit.verdicts.values() if "frame" in said.details), None)
    shares = (None, None)
    if given == "no mask" and pair.boxes and edit.region is not None:
        shares = _shares(edits, np.asarray(pair.mask().resize(edit.image.size)) >= 128)
    return Judged(
        pair, given, by, edits, "global" if details["region"] == "whole" else "local", *shares,
        frame is not None and frame["how"] != "same", not _redone(pair, mask), seconds,
    )  # fmt: skip


def _redone(pair: Pair, mask: Image.Image | None) -> bool:
    """Whether the source, only saved again, passes for an edit."""
    buffer = io.BytesIO()
    with Image.open(pair.source) as picture:
        picture.convert("RGB").save(buffer, "JPEG", quality=QUALITY)
    (edit,) = assess(pair.source, [Image.open(buffer)], mask=mask)
    return edit.faithful


def _shares(edits: EditSet, boxes: np.ndarray) -> tuple[float, float]:
    """Of what lies outside the boxes, bool (h, w), the share taken into the region; and of what changed inside."""
    (edit,) = edits
    region = np.asarray(edit.region) >= 128
    pictures = [np.asarray(picture.convert("RGB"), float) for picture in (edits.source, edit.image)]
    changed = (np.abs(pictures[0] - pictures[1]).mean(-1) > 0.1 * 255) & boxes
    return _share(region[~boxes], 0.0), _share(region[changed], 1.0)


def _share(taken: np.ndarray, nothing: float) -> float:
    return float(taken.mean()) if taken.size else nothing
