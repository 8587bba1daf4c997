"""What should not have changed in an edit of a part: strays, objects moved or missing.

Such a change lies inside the estimated region, where the checks of the outside do not look. An edit is compared with
the others of its set: what all of them do was asked for.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ctxrep_plugins.checks.verdicts import Measure, incomparable

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


def measures(seen: Evidence) -> list[dict[str, Measure]]:
    """Of each edit; needs three edits of a part of the picture, and no mask. None is of other sets."""
    if incomparable(seen):
        return [{} for _ in seen.edits]
    changed = (_small(seen.regions[:, None].float()) > 0.5).float()  # (n, 1, h, w)
    found = []
    for i in range(len(seen.edits)):
        value = stray(seen.regions.numpy(), i)
        measured = {"strays": Measure(value, STRAY_MOST, f"{value:.1%} of the picture changes apart from the edit")}
        places = _alone(changed, i) if min(changed.shape[2:]) >= WINDOW else None
        if places is not None:
            copied, left = copied_content(seen, i, places), detail_left(seen, i, places)
            measured["moved"] = Measure(copied, COPY_MOST, "a part shows what the source has in another place")
            measured["missing"] = Measure(
                left, DETAIL_LEAST, "something of the source is gone, and nothing is there instead", at_least=True
            )
        found.append(measured)
    return found


def copied_content(seen: Evidence, i: int, places: Tensor) -> float:
    """Whether edit i shows elsewhere what the source has in one place, in the windows at `places`, (candidates,).

    A window is suspicious if its own place in the source, whatever contrast and colour it is given, explains it much
    worse than another place does as it is: the ratio of the two root mean square errors, of the most suspicious one.
    """
    import torch

    edit, source = (_windows(_small(x[i : i + 1])) for x in (seen.edits, seen.untouched))  # (windows, numbers)
    windows = edit[places]  # (candidates, numbers)
    elsewhere = torch.cdist(windows, source).amin(1) / windows.shape[1] ** 0.5  # (candidates,)
    a, b = (_centred(x) for x in (windows, source[places]))  # (candidates, numbers)
    gain = (a * b).sum(1) / b.square().sum(1).clamp_min(1e-9)
    here = (a - gain.clamp(0, 4)[:, None] * b).square().mean(1).sqrt()  # (candidates,)
    return float((here / elsewhere.clamp_min(0.01)).max())


def detail_left(seen: Evidence, i: int, places: Tensor) -> float:
    """The share of the source's gradients that a changed window of edit i has, of whatever content, in the worst."""
    edit, source = (_windows(_gradients(_small(x[i : i + 1]))).mean(1)[places] for x in (seen.edits, seen.untouched))
    return float(((edit + 0.002) / (source + 0.002)).min())


def stray(regions: npt.NDArray[np.bool_], i: int) -> float:
    """What edit i has changed apart from the edit proper, that no other edit of the set changes: share of the picture.

    regions: (n, h, w). An edit that did what another did may enlarge it, and do nothing else: the largest part that it
    alone changes is stray. One that did something else is another answer: the largest part is the edit itself, and the
    second largest is stray; where that answer is in many parts, none is. A part is what hangs together in the region
    of the edit; thin ones do not count.
    """
    import numpy as np
    from scipy.ndimage import maximum_filter, minimum_filter
    from skimage.measure import label

    own, others = regions[i], np.delete(regions, i, 0)
    side = 2 * math.ceil(THIN / 2 * min(own.shape)) + 1
    kept = minimum_filter(own & ~others.any(0), side, mode="constant")  # an opening, one side after the other
    alone = maximum_filter(kept, side, mode="constant")
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
