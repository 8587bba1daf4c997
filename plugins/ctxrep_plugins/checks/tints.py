"""What an edit that replaced something recoloured beside it: its neighbour is there still, and looks otherwise.

Such a change lies inside the estimated region. What was replaced has other shapes there; what was only drawn in, made
darker or tinted has its own. Where nearly all of the region is that, recolouring is the edit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctxrep_plugins.checks.verdicts import FEWEST, Measure

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    from ctxrep_edit import Evidence

TINTED_MOST = 0.05  # share of the picture that may be recoloured beside a replaced part
TINTED = 0.05  # difference of the colours, see `Evidence.changes`, from which a place is recoloured
SHAPED = 0.8  # correlation of the gradients from which its shapes are the source's
WINDOW = 0.044  # of the short side: side of the windows in which they are compared
ALL = 0.75  # share of what changed: if as much is recoloured, that was asked for


def measures(seen: Evidence) -> list[dict[str, Measure]]:
    """Of each edit of a part of the picture, where no mask says of which.

    Not in a set of three or more: there another answer, such as a veil over a part, is as right as a typical one, and
    `objects` compares them.
    """
    if seen.where != "estimated" or len(seen.edits) >= FEWEST:
        return [{} for _ in seen.edits]
    return [{"tinted": _measure(share)} for share in tinted(seen)]


def _measure(share: float) -> Measure:
    return Measure(share, TINTED_MOST, f"{share:.1%} of the picture was recoloured beside what was replaced")


def tinted(seen: Evidence) -> list[float]:
    """The share of the picture that each edit recolours beside a replaced part."""
    from ctxrep_edit import brought_down

    regions = brought_down(seen.regions[:, None].float(), seen.scale)[:, 0] > 0.5
    changed = (regions & (seen.changes > TINTED)).numpy()  # (n, h', w')
    before, after = (brought_down(pictures, seen.scale) for pictures in (seen.untouched, seen.edits))
    found = []
    for own, *views in zip(changed, before, after, strict=True):
        shaped = own & (_shapes_kept(*views) > SHAPED)
        found.append(0.0 if shaped.sum() >= ALL * own.sum() else float(shaped.mean()))
    return found


def _shapes_kept(before: Tensor, after: Tensor) -> npt.NDArray[np.float64]:
    """How well the gradients around each pixel of two pictures, (3, h, w), correlate: (h, w), at most 1."""
    import numpy as np
    from scipy.ndimage import gaussian_filter, uniform_filter

    side = max(3, round(WINDOW * min(before.shape[1:])))
    greys = (gaussian_filter(picture.mean(0).double().numpy(), 0.7) for picture in (before, after))
    one, other = (np.stack(np.gradient(grey)) for grey in greys)  # (2, h, w)
    both, *each = (uniform_filter((a * b).sum(0), side) for a, b in ((one, other), (one, one), (other, other)))
    power = np.sqrt(np.maximum(each[0] * each[1], 0))
    return np.asarray(both / (power + 1e-5))
