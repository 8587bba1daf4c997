"""What should not have changed in an edit of a part: strays, objects moved or missing.

Such a change lies inside the estimated region, where the checks of the outside do not look. An edit is compared with
the others of its set: what all of them do was asked for.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from ctxrep_plugins.checks.verdicts import incomparable, where

from ctxrep_edit import Case, Check, Verdict

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    from ctxrep_edit import Evidence

SAME = 0.8  # share of another edit's region that an edit must have changed too to have done the same
THIN = 0.06  # of the short side: what one edit changes alone is no part of its own if it is no wider
STRAY_MOST = 0.03  # share of the picture that one edit may change apart, where no other edit does
SHORT = 64  # pixels: short side to which pictures are brought down before objects are looked for
WINDOW = 7  # pixels of that: side of the windows that are compared
FULL = 0.85  # share of a window that must have changed
MOST_WINDOWS = 400  # that are looked at in one edit
COPY_MOST = 3.0  # times that another place of the source may explain a window better than its own place does
DETAIL_LEAST = 0.2  # share of the source's gradients that a changed window must have, of whatever content


class Strays(Check):
    """Whether an edit has changed something apart from the edit proper, that no other edit of the set changes.

    An edit that did what another did may enlarge it, and do nothing else: the largest part that it alone changes is
    stray. One that did something else is another answer: the largest part is the edit itself, and the second largest
    is stray; where that answer is in many parts, none is. A part is what hangs together in the region of the edit; thin
    ones do not count. Needs three edits, no mask.
    """

    name = "strays"
    summary = "share of the picture that one edit changes apart, where no other does"

    def verdicts(self, case: Case) -> Sequence[Verdict]:
        seen = case.evidence
        if why := incomparable(seen):
            return [Verdict.not_asked("stray change", why, where(seen, i)) for i in range(len(seen.edits))]
        verdicts = []
        for i in range(len(seen.edits)):
            value = _stray(seen.regions.numpy(), i)
            kept = value <= STRAY_MOST
            reason = f"{value:.1%} of the picture changes apart from the edit, where no other edit does, "
            reason += f"{'within' if kept else 'over'} {STRAY_MOST:.0%}"
            verdicts.append(Verdict(kept, "stray change", value, STRAY_MOST, reason, where(seen, i)))
        return verdicts


class _Objects(Check):
    """Looks at windows that lie in what was changed, but not by every edit of the set. Needs three edits, no mask."""

    measure: ClassVar[str]

    def verdicts(self, case: Case) -> Sequence[Verdict]:
        seen = case.evidence
        changed = (_small(seen.regions[:, None].float()) > 0.5).float()  # (n, 1, h, w)
        why = incomparable(seen) or ("the picture is too small" if min(changed.shape[2:]) < WINDOW else None)
        places = [None if why else _alone(changed, i) for i in range(len(changed))]
        nothing = why or "no part of the picture was changed by some edits and not by others"
        return [
            Verdict.not_asked(self.measure, nothing, where(seen, i)) if found is None else self._verdict(seen, i, found)
            for i, found in enumerate(places)
        ]

    @abstractmethod
    def _verdict(self, seen: Evidence, i: int, places: Tensor) -> Verdict:
        """Of edit i, by its windows at `places`, (candidates,)."""


class Moved(_Objects):
    """Whether an edit shows elsewhere what the source has in one place.

    A window is suspicious if its own place in the source, whatever contrast and colour it is given, explains it much
    worse than another place does as it is. The measure is the ratio of the two root mean square errors.
    """

    name = "moved"
    summary = "whether a changed part shows another place of the source"

    measure = "copied content"

    def _verdict(self, seen: Evidence, i: int, places: Tensor) -> Verdict:
        value = self._copied(seen, i, places)
        reason = f"another place of the source explains a changed part {value:.1f} times as well as its own does, "
        reason += f"{'within' if value <= COPY_MOST else 'over'} {COPY_MOST:.1f}"
        return Verdict(value <= COPY_MOST, self.measure, value, COPY_MOST, reason, where(seen, i))

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

    measure = "detail left"

    def _verdict(self, seen: Evidence, i: int, places: Tensor) -> Verdict:
        value = self._left(seen, i, places)
        reason = f"a changed part has {value:.2f} of the detail that the source has there, "
        reason += f"{'at least' if value >= DETAIL_LEAST else 'below'} {DETAIL_LEAST:.2f}"
        return Verdict(value >= DETAIL_LEAST, self.measure, value, DETAIL_LEAST, reason, where(seen, i))

    def _left(self, seen: Evidence, i: int, places: Tensor) -> float:
        edit, source = (
            _windows(_gradients(_small(x[i : i + 1]))).mean(1)[places] for x in (seen.edits, seen.untouched)
        )
        return float(((edit + 0.002) / (source + 0.002)).min())


def _stray(regions: npt.NDArray[np.bool_], i: int) -> float:
    import numpy as np
    from scipy.ndimage import binary_opening
    from skimage.measure import label

    own, others = regions[i], np.delete(regions, i, 0)
    side = 2 * math.ceil(THIN / 2 * min(own.shape)) + 1
    alone = binary_opening(own & ~others.any(0), np.ones((side, side)))
    parts = label(own, connectivity=2)
    areas = np.bincount(parts[alone], minlength=parts.max() + 1)  # (parts,) pixels that it alone changes
    done = [other for other in others if (own & other).sum() >= SAME * other.sum() >= areas.max() / 3]
    if not done:
        first, second, *_ = [*sorted(areas, reverse=True), 0]
        return float(second / own.size) if first >= areas.sum() / 2 else 0.0
    for other in done:  # the part that holds it is the edit, made larger
        areas[np.bincount(parts[own & other], minlength=len(areas)) >= SAME * other.sum()] = 0
    return float(areas.max() / own.size)


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
    from ctxrep_edit import brought_down

    return brought_down(pictures, SHORT / min(pictures.shape[2:]))


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
