"""Whether a picture still lies on its source, and has the source's edges."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from ctxrep_plugins.checks.verdicts import NOT_WHOLE, where

from ctxrep_edit import Case, Check, Verdict

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

EDGES_LEAST = 0.35  # share of the source's edges that are still there in the worst part of the picture
CLIPPED = 0.04  # from black or white, of an edit's brightness in [0, 1]: no edge can be seen there
FEW = 1e-4  # mean weight of edges, that of a flat part


class Alignment(Check):
    """Whether the edit lies on its source: see `Evidence.motions`. Moving it back mends it."""

    name = "alignment"
    summary = "shift and zoom against the source, in pixels of the most moved corner"

    def verdicts(self, case: Case) -> Sequence[Verdict]:
        verdicts = []
        for i, motion in enumerate(case.evidence.motions):
            frame = case.frames[i] if case.frames else None
            turned = f"{frame}; that undone, " if frame and frame.how != "same" else ""
            reason = "the picture lies on its source"
            if motion:
                reason = (
                    f"the picture is shifted by {motion.dx:.1f}, {motion.dy:.1f} pixels and zoomed {motion.zoom:.3f}"
                )
                reason += ", and was moved back" if (case.realign or case.restore) else ": realign=True moves it back"
            details = {**where(case.evidence, i), "shift": [motion.dx, motion.dy], "zoom": motion.zoom}
            if frame:
                details["frame"] = frame.to_dict()
            kept = (case.realign or case.restore) or not motion
            verdicts.append(Verdict(kept, "displacement", motion.displacement, motion.step, turned + reason, details))
        return verdicts


class Structure(Check):
    """Whether the source's edges are still there, each weighted by its strength, in the worst part of the picture.

    A part is a window of a quarter of the short side with at least half of the picture's mean edges. 1: all of them,
    in their old direction, whatever the contrast; 0: none, or turned round. What became black or white does not count,
    as a hard contrast leaves no edges there. This is what an edit of the
    whole picture, which may change every colour, has to keep; edits of a part have their outside judged instead. Where
    most of a set lose edges, they were asked to, and half of the median of the others is enough.
    """

    name = "structure"
    summary = "share of the source's edges still there in the worst part, for edits of the whole picture"

    def verdicts(self, case: Case) -> Sequence[Verdict]:
        seen = case.evidence
        if seen.where != "whole":
            return [Verdict.not_asked("edges kept", NOT_WHOLE, where(seen, i)) for i in range(len(seen.edits))]
        values = [_edges(*views) for views in zip(seen.untouched, seen.edits, seen.outside, strict=True)]
        verdicts = []
        for i, value in enumerate(values):
            others = values[:i] + values[i + 1 :] or [1.0]
            least = min(EDGES_LEAST, median(others) / 2)
            kept = value >= least
            reason = f"{value:.2f} of the source's edges are still there in the worst part, "
            reason += f"{'at least' if kept else 'below'} {least:.2f}"
            verdicts.append(Verdict(kept, "edges kept", value, least, reason, where(seen, i)))
        return verdicts


def _clipped(picture: Tensor) -> npt.NDArray[np.bool_]:
    """Where (3, h, w) in [0, 1] is black or white: (h, w)."""
    brightness: npt.NDArray[np.float32] = picture.mean(0).numpy()
    return (brightness <= CLIPPED) | (brightness >= 1 - CLIPPED)


def _edges(source: Tensor, edit: Tensor, outside: Tensor) -> float:
    import numpy as np
    from scipy.ndimage import uniform_filter

    from ctxrep_edit import orientation

    before, after = orientation(source), orientation(edit)
    dy, dx = np.gradient(source.mean(0).numpy())
    weight = (np.abs(dy) + np.abs(dx)) * outside.numpy()
    side = max(3, min(weight.shape) // 4)
    mean = uniform_filter(weight * np.abs(before) ** 2, side, mode="constant").mean()
    weight *= ~_clipped(edit) | _clipped(source)  # what the edit made black or white does not count
    kept = uniform_filter(weight * (before * after.conj()).real, side, mode="constant")
    there = uniform_filter(weight * np.abs(before) ** 2, side, mode="constant")
    inner = np.zeros(weight.shape, bool)
    inner[side // 2 : -(side // 2), side // 2 : -(side // 2)] = True
    enough = inner & (there > 0.5 * mean) & (there > FEW)
    if not enough.any():  # nothing to see: of a source without edges all are there, of another none
        return float(mean <= FEW)
    return max(0.0, float((kept[enough] / there[enough]).min()))
