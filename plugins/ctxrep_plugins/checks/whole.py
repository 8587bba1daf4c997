"""What an edit of the whole picture should keep: the source's edges; and what should not be in it: parts treated
otherwise than the rest, and noise.

In such an edit everything may have changed, and it has no outside.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from ctxrep_plugins.checks.verdicts import Measure

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    from ctxrep_edit import Evidence

EDGES_LEAST = 0.35  # share of the source's edges that are still there in the worst part of the picture
CLIPPED = 0.04  # from black or white, of an edit's brightness in [0, 1]: no edge can be seen there
FEW = 1e-4  # mean weight of edges, that of a flat part
WORST_MOST = 0.10  # root mean square of what the worst window of an edit of the whole picture leaves unexplained
GRAIN_MOST = 0.022  # the same of its typical pixel
OTHERS = 2.0  # times that of the set's median edit, where that is more
EVEN = 3.0  # times the typical pixel: what is unexplained is noise if the worst window has no more


def measures(seen: Evidence) -> list[dict[str, Measure]]:
    """Of each edit of the whole picture.

    It is taken for one operation, the same everywhere; see `Evidence.unexplained`. Where that explains the typical
    pixel but not one part, the part was treated otherwise; where it explains the typical pixel badly, and no part much
    worse, there is noise. An edit may leave more unexplained, and lose more edges, where most of its set do.
    """
    edges = _edges_kept(seen)
    unexplained = seen.unexplained  # (n, h', w')
    worst, grain = _worst(unexplained), [float(value) for value in unexplained.flatten(1).median(1).values]
    found = []
    for i in range(len(edges)):
        least = min(EDGES_LEAST, _others(edges, i, 1.0) / 2)
        most, even = max(WORST_MOST, OTHERS * _others(worst, i, 0.0)), max(GRAIN_MOST, OTHERS * _others(grain, i, 0.0))
        measured = {"edges": Measure(edges[i], least, "the layout of a part is lost", at_least=True)}
        if grain[i] <= even:
            measured["uniformity"] = Measure(worst[i], most, "a part was treated otherwise than the rest")
        if worst[i] <= EVEN * grain[i]:
            measured["grain"] = Measure(grain[i], even, "the picture has become noisy")
        found.append(measured)
    return found


def _others(values: list[float], i: int, alone: float) -> float:
    """The median of the others' values; `alone` where there are none."""
    return median(values[:i] + values[i + 1 :] or [alone])


def _worst(errors: Tensor) -> list[float]:
    """Root mean square in the worst window of 14 % of the short side: (n, h', w') to n numbers."""
    import torch.nn.functional as F

    side = max(1, min(*errors.shape[1:], round(0.14 * min(errors.shape[1:]))))
    worst: list[float] = F.avg_pool2d(errors.square()[:, None], side, 1).amax((1, 2, 3)).sqrt().tolist()
    return worst


def _edges_kept(seen: Evidence) -> list[float]:
    """Whether the source's edges are still there, each weighted by its strength, in the worst part of the picture.

    A part is a window of a quarter of the short side with at least half of the picture's mean edges. 1: all of them,
    in their old direction, whatever the contrast; 0: none, or turned round. What became black or white does not count,
    as a hard contrast leaves no edges there.
    """
    from ctxrep_edit import brought_down

    untouched, edits = (brought_down(pictures, seen.scale) for pictures in (seen.untouched, seen.edits))
    there = brought_down(seen.outside[:, None].float(), seen.scale)[:, 0] > 0.98
    return [edges_left(*views) for views in zip(untouched, edits, there, strict=True)]


def _clipped(picture: Tensor) -> npt.NDArray[np.bool_]:
    """Where (3, h, w) in [0, 1] is black or white: (h, w)."""
    brightness: npt.NDArray[np.float32] = picture.mean(0).numpy()
    return (brightness <= CLIPPED) | (brightness >= 1 - CLIPPED)


def edges_left(source: Tensor, edit: Tensor, outside: Tensor) -> float:
    """Of one edit, both (3, h, w) in [0, 1], where `outside`, bool (h, w): see `_edges_kept`."""
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
