"""The default checks that look for what should not be there: objects moved or missing, and noise.

In an edit of a part, such a change lies inside the estimated region, where the other checks do not look. In an edit of
the whole picture, everything has changed, and what is wrong is what was treated otherwise than the rest. Both compare
an edit with the others of its set: what all of them do was asked for. docs/faithfulness.md says how the bounds were
found.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from ctxrep_plugins.checks.outside import not_asked, where

from ctxrep_edit import Case, Check, Verdict

if TYPE_CHECKING:
    from torch import Tensor

    from ctxrep_edit import Evidence

SHORT = 64  # pixels: short side to which pictures are brought down before objects are looked for
WINDOW = 7  # pixels of that: side of the windows that are compared
FULL = 0.85  # share of a window that must have changed
MOST_WINDOWS = 400  # that are looked at in one edit
COPY_MOST = 3.0  # times that another place of the source may explain a window better than its own place does
DETAIL_LEAST = 0.2  # share of the source's gradients that a changed window must have, of whatever content
WORST_MOST = 0.10  # root mean square of what the worst window of an edit of the whole picture leaves unexplained
GRAIN_MOST = 0.022  # the same of its typical pixel
OTHERS = 2.0  # times that of the set's median edit, where that is more


class _Objects(Check):
    """Looks at windows that lie in what was changed, but not by every edit of the set. Needs three edits, no mask."""

    def verdicts(self, case: Case) -> Sequence[Verdict]:
        seen = case.evidence
        changed = (_small(seen.regions[:, None].float()) > 0.5).float()  # (n, 1, h, w)
        asked = seen.where == "estimated" and len(changed) > 2 and min(changed.shape[2:]) >= WINDOW
        places = [_alone(changed, i) if asked else None for i in range(len(changed))]
        return [self._verdict(seen, i, found) for i, found in enumerate(places)]

    @abstractmethod
    def _verdict(self, seen: Evidence, i: int, places: Tensor | None) -> Verdict:
        """Of edit i, by its windows at `places`, (candidates,); None where there are none."""


class Moved(_Objects):
    """Whether an edit shows elsewhere what the source has in one place.

    A window is suspicious if its own place in the source, whatever contrast and colour it is given, explains it much
    worse than another place does as it is. The measure is the ratio of the two root mean square errors.
    """

    name = "moved"
    summary = "whether a changed part shows another place of the source"

    def _verdict(self, seen: Evidence, i: int, places: Tensor | None) -> Verdict:
        value, reason = 0.0, "nothing that changed could be another place of the source"
        if places is not None:
            value = self._copied(seen, i, places)
            reason = f"another place of the source explains a changed part {value:.1f} times as well as its own does, "
            reason += f"{'within' if value <= COPY_MOST else 'over'} {COPY_MOST:.1f}"
        return Verdict(value <= COPY_MOST, "copied content", value, COPY_MOST, reason, where(seen, i))

    def _copied(self, seen: Evidence, i: int, places: Tensor) -> float:
        import torch

        edit, source = (_windows(_small(x[i : i + 1])) for x in (seen.edits, seen.untouched))  # (windows, numbers)
        windows = edit[places]  # (candidates, numbers)
        elsewhere = torch.cdist(windows, source).amin(1) / windows.shape[1] ** 0.5  # (candidates,)
        a, b = (_centred(x) for x in (windows, source[places]))  # (candidates, numbers)
        gain = (a * b).sum(1) / b.square().sum(1).clamp_min(1e-9)
        here = (a - gain.clamp(0, 4)[:, None] * b).square().mean(1).sqrt()  # (candidates,)
        return float((here / elsewhere.clamp_min(0.01)).max())


class Missing(_Objects):
    """Whether something of the source is gone and nothing has taken its place.

    The measure is the share of the source's gradients that a changed window has, of whatever content, in the worst one.
    """

    name = "missing"
    summary = "whether a changed part has lost what the source shows there, and shows nothing instead"

    def _verdict(self, seen: Evidence, i: int, places: Tensor | None) -> Verdict:
        value, reason = 1.0, "nothing that changed could have lost its detail"
        if places is not None:
            value = self._left(seen, i, places)
            reason = f"a changed part has {value:.2f} of the detail that the source has there, "
            reason += f"{'at least' if value >= DETAIL_LEAST else 'below'} {DETAIL_LEAST:.2f}"
        return Verdict(value >= DETAIL_LEAST, "detail left", value, DETAIL_LEAST, reason, where(seen, i))

    def _left(self, seen: Evidence, i: int, places: Tensor) -> float:
        edit, source = (
            _windows(_gradients(_small(x[i : i + 1]))).mean(1)[places] for x in (seen.edits, seen.untouched)
        )
        return float(((edit + 0.002) / (source + 0.002)).min())


class _Whole(Check):
    """Takes an edit of the whole picture as one local operation, the same everywhere; see `Evidence.unexplained`."""

    def _verdicts(self, case: Case, measure: str, values: Sequence[float], most: float, told: str) -> list[Verdict]:
        """One each; an edit may leave more unexplained than `most` where most of its set do."""
        seen = case.evidence
        verdicts = []
        for i, value in enumerate(values):
            others = [*values[:i], *values[i + 1 :]]
            bound = max(most, OTHERS * median(others)) if others else most
            kept = value <= bound
            reason = f"{value:.3f} of {told} is not what the rest makes of the source, "
            reason += f"{'within' if kept else 'over'} {bound:.3f}"
            verdicts.append(Verdict(kept, measure, value, bound, reason, where(seen, i)))
        return verdicts


class Uniformity(_Whole):
    """Whether an edit of the whole picture treats all of it alike: an object moved or missing is treated otherwise."""

    name = "uniformity"
    summary = "what one operation on the whole picture leaves unexplained in the worst part of it"

    def verdicts(self, case: Case) -> Sequence[Verdict]:
        import torch.nn.functional as F

        if case.evidence.where != "whole":
            return not_asked(case.evidence, "unexplained in the worst part", WORST_MOST)
        errors = case.evidence.unexplained  # (n, h, w)
        side = max(1, min(*errors.shape[1:], round(0.14 * min(errors.shape[1:]))))
        worst = F.avg_pool2d(errors.square()[:, None], side, 1).amax((1, 2, 3)).sqrt()  # (n,)
        told = "the worst part"
        return self._verdicts(case, "unexplained in the worst part", worst.tolist(), WORST_MOST, told)


class Grain(_Whole):
    """Whether an edit of the whole picture has become noisy."""

    name = "grain"
    summary = "what one operation on the whole picture leaves unexplained in its typical pixel"

    def verdicts(self, case: Case) -> Sequence[Verdict]:
        if case.evidence.where != "whole":
            return not_asked(case.evidence, "unexplained in a typical pixel", GRAIN_MOST)
        typical = case.evidence.unexplained.flatten(1).median(1).values  # (n,)
        return self._verdicts(case, "unexplained in a typical pixel", typical.tolist(), GRAIN_MOST, "a typical pixel")


def _alone(changed: Tensor, i: int) -> Tensor | None:
    """Places of the windows that edit i changed and not all others did; None: no such window. changed: (n, 1, h, w)."""
    import torch

    others = torch.cat([changed[:i], changed[i + 1 :]]).amin(0, keepdim=True)  # (1, 1, h, w)
    own = _windows(changed[i : i + 1] * (1 - others)).mean(1)  # (windows,)
    places = (own >= FULL).nonzero().flatten()
    if not len(places):
        return None
    return places[torch.linspace(0, len(places) - 1, min(len(places), MOST_WINDOWS)).long()]


def _small(pictures: Tensor) -> Tensor:
    """(n, c, h, w) brought down to a short side of SHORT; smaller ones stay."""
    import torch.nn.functional as F

    scale = SHORT / min(pictures.shape[2:])
    if scale >= 1:
        return pictures
    size = [max(1, round(side * scale)) for side in pictures.shape[2:]]
    return F.interpolate(pictures, size, mode="area")


def _windows(picture: Tensor) -> Tensor:
    """Every window of (1, c, h, w): (windows, c * WINDOW * WINDOW)."""
    import torch.nn.functional as F

    return F.unfold(picture, WINDOW)[0].T


def _centred(windows: Tensor) -> Tensor:
    """Each channel of each window less its mean: (windows, 3 * WINDOW * WINDOW)."""
    channels = windows.view(len(windows), 3, -1)
    return (channels - channels.mean(2, keepdim=True)).flatten(1)


def _gradients(picture: Tensor) -> Tensor:
    """The length of the gradient of the slightly blurred mean of the channels: (1, 3, h, w) to (1, 1, h, w)."""
    import numpy as np
    import torch
    from scipy.ndimage import gaussian_filter

    dy, dx = np.gradient(gaussian_filter(picture[0].mean(0).numpy(), 0.7))
    return torch.from_numpy(np.hypot(dy, dx))[None, None]


CHECKS: tuple[type[Check], ...] = (Moved, Missing, Uniformity, Grain)
