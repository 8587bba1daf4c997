"""The default checks: did an edit keep what it was not asked to change?

Each measures one thing on the evidence of the case: edits moved back onto their source, and where each was edited. In
an edit of a part, what is measured is measured outside the region, and the plain edit, where there is one, sets
the bound if it does worse. docs/faithfulness.md says how the bounds were found.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from ctxrep_edit import Case, Check, Verdict

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    from ctxrep_edit import Evidence

LPIPS_MARGIN = 0.05  # LPIPS that an edit may lose outside its region beyond the autoencoder's round trip
LPIPS_WHOLE = 0.80  # LPIPS to the source beyond which even an edit of the whole picture has lost it
PSNR_LEAST = 31.0  # dB to the untouched source outside the region
COLOUR_MOST = 4.0  # CIEDE2000 of the blurred colours there
EDGES_LEAST = 0.35  # share of the source's edges that are still there in the worst part of the picture
ROUNDING = 1e-5  # equal pictures in one batch differ by this much
STRAY_MOST = 0.03  # share of the picture that one edit may change apart, where no other edit does


class Preservation(Check):
    """LPIPS by Zhang et al., arXiv 1801.03924: the mean of the spatial map over the outside.

    The source is pasted into the region first: AlexNet sees far, and what was rightly edited would count all over the
    outside (measured: docs/faithfulness.md).
    """

    name = "preservation"
    summary = "LPIPS outside the edited region, against the autoencoder's round trip and the plain edit"

    def prepare(self) -> None:
        from ctxrep_edit import ensure_weights

        ensure_weights()

    def verdicts(self, case: Case) -> Sequence[Verdict]:
        import torch

        from ctxrep_edit import lpips_maps

        seen = case.evidence
        maps, floors = (
            lpips_maps(torch.where(seen.outside[:, None], pictures, seen.source), seen.source)
            for pictures in (seen.edits, seen.untouched)
        )  # (n, h, w)
        values, floor = _means(maps, seen.outside), _means(floors, seen.outside)
        plain = values[0] if case.first_is_plain else 0.0
        verdicts = []
        for i, value in enumerate(values):
            details = {**where(seen, i), "floor": floor[i]}
            if seen.where == "whole":
                how = "keeps within" if value <= LPIPS_WHOLE else "is beyond"
                reason = (
                    f"an edit of the whole picture has no outside; its LPIPS of {value:.3f} {how} {LPIPS_WHOLE:.2f}"
                )
                verdicts.append(
                    Verdict(value <= LPIPS_WHOLE, "LPIPS to the source", value, LPIPS_WHOLE, reason, details)
                )
                continue
            bound, why = floor[i] + LPIPS_MARGIN, f"round trip {floor[i]:.3f} + {LPIPS_MARGIN:.2f}"
            if i and plain > bound:
                bound, why = plain, "what the plain edit loses"
            kept = value <= bound + ROUNDING
            reason = f"LPIPS outside the edit is {value:.3f}, {'within' if kept else 'over'} {bound:.3f} ({why})"
            verdicts.append(Verdict(kept, "LPIPS outside the edit", value, bound, reason, details))
        return verdicts


class Pixels(Check):
    """PSNR to the untouched source outside the region; SSIM (Wang et al. 2004) beside it, in the details."""

    name = "pixels"
    summary = "PSNR outside the edited region, against the autoencoder's round trip"

    def verdicts(self, case: Case) -> Sequence[Verdict]:
        seen = case.evidence
        if seen.where == "whole":
            return not_asked(seen, "PSNR outside the edit", 0.0)
        errors = _means((seen.edits - seen.untouched).square().mean(1), seen.outside)
        values = [_decibel(error) for error in errors]
        bound = min(PSNR_LEAST, values[0]) if case.first_is_plain else PSNR_LEAST
        verdicts = []
        for i, value in enumerate(values):
            least = bound if i else PSNR_LEAST
            kept = value >= least - ROUNDING
            reason = f"PSNR outside the edit is {value:.1f} dB, {'at least' if kept else 'below'} {least:.1f}"
            details = {**where(seen, i), "ssim": _ssim(seen, i)}
            verdicts.append(Verdict(kept, "PSNR outside the edit", value, least, reason, details))
        return verdicts


class Colour(Check):
    """Colour drift: the mean CIEDE2000 difference outside the region, both pictures blurred so that colour is left."""

    name = "colour"
    summary = "colour drift outside the edited region, as CIEDE2000 of the blurred pictures"

    def verdicts(self, case: Case) -> Sequence[Verdict]:
        import torch

        seen = case.evidence
        if seen.where == "whole":
            return not_asked(seen, "CIEDE2000 outside the edit", 100.0)
        composed = torch.where(seen.outside[:, None], seen.edits, seen.untouched)
        values = [
            _drift(edit, still, outside)
            for edit, still, outside in zip(composed, seen.untouched, seen.outside, strict=True)
        ]
        bound = max(COLOUR_MOST, values[0]) if case.first_is_plain else COLOUR_MOST
        verdicts = []
        for i, value in enumerate(values):
            most = bound if i else COLOUR_MOST
            kept = value <= most + ROUNDING
            reason = f"the colours outside the edit drift by {value:.1f}, {'within' if kept else 'over'} {most:.1f}"
            verdicts.append(Verdict(kept, "CIEDE2000 outside the edit", value, most, reason, where(seen, i)))
        return verdicts


class Alignment(Check):
    """Whether the edit lies on its source: see `ctxrep_edit.alignment`. Moving it back mends it."""

    name = "alignment"
    summary = "shift and zoom against the source, in pixels of the most moved corner"

    def verdicts(self, case: Case) -> Sequence[Verdict]:
        verdicts = []
        for i, motion in enumerate(case.evidence.motions):
            reason = "the picture lies on its source"
            if motion:
                reason = (
                    f"the picture is shifted by {motion.dx:.1f}, {motion.dy:.1f} pixels and zoomed {motion.zoom:.3f}"
                )
                reason += ", and was moved back" if (case.realign or case.restore) else ": realign=True moves it back"
            details = {**where(case.evidence, i), "shift": [motion.dx, motion.dy], "zoom": motion.zoom}
            kept = (case.realign or case.restore) or not motion
            verdicts.append(Verdict(kept, "displacement", motion.displacement, motion.step, reason, details))
        return verdicts


class Structure(Check):
    """Whether the source's edges are still there, each weighted by its strength, in the worst part of the picture.

    A part is a window of a quarter of the short side with at least half of the picture's mean edges. 1: all of them,
    in their old direction, whatever the contrast; 0: none; below: turned round. This is what an edit of the
    whole picture, which may change every colour, has to keep; edits of a part have their outside judged instead. Where
    most of a set lose edges, they were asked to, and half of the median of the others is enough.
    """

    name = "structure"
    summary = "share of the source's edges still there in the worst part, for edits of the whole picture"

    def verdicts(self, case: Case) -> Sequence[Verdict]:
        seen = case.evidence
        whole = seen.where == "whole"
        values = [_edges(*views) for views in zip(seen.untouched, seen.edits, seen.outside, strict=True)]
        verdicts = []
        for i, value in enumerate(values):
            others = values[:i] + values[i + 1 :] or [1.0]
            least = min(EDGES_LEAST, median(others) / 2) if whole else -1.0
            kept = value >= least
            reason = f"{value:.2f} of the source's edges are still there in the worst part"
            reason += f", {'at least' if kept else 'below'} {least:.2f}" if whole else ""
            verdicts.append(Verdict(kept, "edges kept", value, least, reason, where(seen, i)))
        return verdicts


class Strays(Check):
    """Whether an edit has changed something apart from the edit proper, that no other edit of the set changes.

    What one edit alone changes is stray if what it shares with others is half as large or more; else the largest
    part is taken for the edit itself, and the second largest is stray. Thin parts do not count. Sets of one or two
    edits, and those with a mask, have no strays.
    """

    name = "strays"
    summary = "share of the picture that one edit changes apart, where no other does"

    def verdicts(self, case: Case) -> Sequence[Verdict]:
        seen = case.evidence
        apart = seen.where == "estimated" and len(seen.edits) > 2
        verdicts = []
        for i in range(len(seen.edits)):
            value = _stray(seen.regions.numpy(), i) if apart else 0.0
            kept = value <= STRAY_MOST
            reason = f"{value:.1%} of the picture changes apart from the edit, where no other edit does, "
            reason += f"{'within' if kept else 'over'} {STRAY_MOST:.0%}"
            verdicts.append(Verdict(kept, "stray change", value, STRAY_MOST, reason, where(seen, i)))
        return verdicts


def where(seen: Evidence, i: int) -> dict[str, Any]:
    """The details of a verdict that every check gives."""
    return {"region": seen.where, "region_share": float(seen.regions[i].float().mean())}


def not_asked(seen: Evidence, measure: str, bound: float) -> list[Verdict]:
    """Verdicts of a check that such edits have nothing for."""
    whole = seen.where == "whole"
    reason = "an edit of the whole picture has no outside" if whole else "asked of edits of the whole picture"
    return [Verdict(True, measure, bound, bound, reason, where(seen, i)) for i in range(len(seen.edits))]


def _means(maps: Tensor, where: Tensor) -> list[float]:
    """The mean of each map, (n, h, w), where that edit is to be measured; 0 where it is nowhere."""
    return [float(one[there].double().mean()) if there.any() else 0.0 for one, there in zip(maps, where, strict=True)]


def _decibel(error: float) -> float:
    import math

    return -10 * math.log10(max(error, 1e-10))


def _array(picture: Tensor) -> npt.NDArray[np.float32]:
    return picture.permute(1, 2, 0).numpy()  # (h, w, 3)


def _ssim(seen: Evidence, i: int) -> float:
    import torch
    from skimage.metrics import structural_similarity

    composed = torch.where(seen.outside[i], seen.edits[i], seen.untouched[i])
    pair = _array(composed), _array(seen.untouched[i])
    window = min(7, (min(pair[0].shape[:2]) - 1) // 2 * 2 + 1)
    full = structural_similarity(*pair, win_size=window, channel_axis=2, data_range=1.0, full=True)[1]
    return _means(torch.from_numpy(full).mean(2)[None], seen.outside[i : i + 1])[0]


def _drift(edit: Tensor, still: Tensor, outside: Tensor) -> float:
    from scipy.ndimage import gaussian_filter
    from skimage.color import deltaE_ciede2000, rgb2lab

    blur = max(2.0, 0.04 * min(still.shape[1:]))
    labs = [rgb2lab(gaussian_filter(_array(picture), (blur, blur, 0))) for picture in (edit, still)]
    there = outside.numpy()
    return float(deltaE_ciede2000(*labs)[there].mean()) if there.any() else 0.0


def _edges(source: Tensor, edit: Tensor, outside: Tensor) -> float:
    import numpy as np
    from scipy.ndimage import uniform_filter

    from ctxrep_edit import orientation

    before, after = orientation(source), orientation(edit)
    dy, dx = np.gradient(source.mean(0).numpy())
    weight = (np.abs(dy) + np.abs(dx)) * outside.numpy()
    side = max(3, min(weight.shape) // 4)
    kept = uniform_filter(weight * (before * after.conj()).real, side, mode="constant")
    there = uniform_filter(weight * np.abs(before) ** 2, side, mode="constant")
    inner = np.zeros(weight.shape, bool)
    inner[side // 2 : -(side // 2), side // 2 : -(side // 2)] = True
    enough = inner & (there > 0.5 * there.mean()) & (there > 1e-4)
    return float((kept[enough] / there[enough]).min()) if enough.any() else 1.0


def _stray(regions: npt.NDArray[np.bool_], i: int) -> float:
    import numpy as np
    from scipy.ndimage import binary_opening
    from skimage.measure import label, regionprops

    alone = regions[i] & ~np.delete(regions, i, 0).any(0)
    side = 2 * max(1, round(0.03 * min(alone.shape))) + 1
    alone = binary_opening(alone, np.ones((side, side)))
    areas = sorted((part.area for part in regionprops(label(alone, connectivity=2))), reverse=True)
    if not areas:
        return 0.0
    shared = regions[i].sum() - alone.sum()
    largest = areas[0] if shared >= areas[0] / 2 else areas[1] if len(areas) > 1 else 0
    return float(largest / alone.size)


CHECKS: tuple[type[Check], ...] = (Preservation, Pixels, Colour, Alignment, Structure, Strays)
