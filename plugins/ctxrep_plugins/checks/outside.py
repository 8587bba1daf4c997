"""What is measured outside the edited region: LPIPS, PSNR and colour.

The plain edit, where there is one, sets the bound if it does worse.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from ctxrep_plugins.checks.verdicts import NO_OUTSIDE, NOTHING_OUTSIDE, where

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
ROUNDING = 1e-5  # equal pictures in one batch differ by this much


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
            if not seen.outside[i].any():
                verdicts.append(Verdict.not_asked("LPIPS outside the edit", NOTHING_OUTSIDE, details))
                continue
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


class _Bounded(Check):
    """One number for each edit, against a fixed bound or the plain edit's number where that is worse."""

    measure: ClassVar[str]
    bound: ClassVar[float]
    worse: ClassVar[Callable[[float, float], float]]
    """`max` where `bound` is what the number may be at most, `min` where at least."""

    @abstractmethod
    def _values(self, seen: Evidence) -> list[float]:
        """The number of each edit."""

    @abstractmethod
    def _told(self, value: float) -> str:
        """What was measured, in words."""

    def _details(self, seen: Evidence, i: int) -> dict[str, Any]:
        return where(seen, i)

    def verdicts(self, case: Case) -> Sequence[Verdict]:
        seen = case.evidence
        if seen.where == "whole":
            return [Verdict.not_asked(self.measure, NO_OUTSIDE, where(seen, i)) for i in range(len(seen.edits))]
        values, most = self._values(seen), self.worse is max
        others = self.worse(self.bound, values[0]) if case.first_is_plain else self.bound
        verdicts = []
        for i, value in enumerate(values):
            if not seen.outside[i].any():
                verdicts.append(Verdict.not_asked(self.measure, NOTHING_OUTSIDE, where(seen, i)))
                continue
            bound = others if i else self.bound
            kept = value <= bound + ROUNDING if most else value >= bound - ROUNDING
            how = ("within" if kept else "over") if most else ("at least" if kept else "below")
            reason = f"{self._told(value)}, {how} {bound:.1f}"
            verdicts.append(Verdict(kept, self.measure, value, bound, reason, self._details(seen, i)))
        return verdicts


class Pixels(_Bounded):
    """PSNR to the untouched source outside the region; SSIM (Wang et al. 2004) beside it, in the details."""

    name = "pixels"
    summary = "PSNR outside the edited region, against the autoencoder's round trip"
    measure = "PSNR outside the edit"
    bound = PSNR_LEAST
    worse = min

    def _values(self, seen: Evidence) -> list[float]:
        return [_decibel(error) for error in _means((seen.edits - seen.untouched).square().mean(1), seen.outside)]

    def _told(self, value: float) -> str:
        return f"PSNR outside the edit is {value:.1f} dB"

    def _details(self, seen: Evidence, i: int) -> dict[str, Any]:
        return {**where(seen, i), "ssim": _ssim(seen, i)}


class Colour(_Bounded):
    """Colour drift: the mean CIEDE2000 difference outside the region, both pictures blurred so that colour is left."""

    name = "colour"
    summary = "colour drift outside the edited region, as CIEDE2000 of the blurred pictures"
    measure = "CIEDE2000 outside the edit"
    bound = COLOUR_MOST
    worse = max

    def _values(self, seen: Evidence) -> list[float]:
        import torch

        composed = torch.where(seen.outside[:, None], seen.edits, seen.untouched)  # (n, 3, h, w)
        pairs = zip(composed, seen.untouched, seen.outside, strict=True)
        return [_drift(edit, still, outside) for edit, still, outside in pairs]

    def _told(self, value: float) -> str:
        return f"the colours outside the edit drift by {value:.1f}"


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
