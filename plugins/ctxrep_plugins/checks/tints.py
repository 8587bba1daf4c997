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
    """Of each edit of a part of the picture, where no mask says of which."""
    if seen.where != "estimated":
        return [{} for _ in seen.edits]
    return [{"tinted": _measure(share)} for share in tinted(seen)]


def _measure(share: float) -> Measure:
    return Measure(share, TINTED_MOST, f"{share:.1%} of the picture was recoloured beside what was replaced")


def tinted(seen: Evidence) -> list[float]:
    """The share of the picture that each edit recolours beside a replaced part; what most of a set do does not count."""
    from ctxrep_edit import brought_down

    regions = brought_down(seen.regions[:, None].float(), seen.scale)[:, 0] > 0.5
    changed = regions & (seen.changes > TINTED)  # (n, h', w')
    places = changed.clone()
    if len(changed) >= FEWEST:
        others = (changed.sum(0) - changed.int()) / (len(changed) - 1)
        places &= others < 0.5
    found = []
    for i, (own, alone) in enumerate(zip(changed.numpy(), places.numpy(), strict=True)):
        before, after = (brought_down(pictures[i : i + 1], seen.scale)[0] for pictures in (seen.untouched, seen.edits))
        shaped = own & (_shapes_kept(before, after) > SHAPED)
        asked = shaped.sum() >= ALL * own.sum()
        found.append(0.0 if asked else float((shaped & alone).mean()))
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
