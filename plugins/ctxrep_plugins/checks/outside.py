"""What an edit of a part loses outside its region: in LPIPS, in places that are visibly changed, and in colour.

Pictures are compared small, as one sees them side by side (`Evidence.scale`): what a model redraws finely is no loss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctxrep_plugins.checks.verdicts import Measure

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    from ctxrep_edit import Evidence

LOSS_MOST = 0.012  # LPIPS that the calmer part of the outside may lose beyond the autoencoder, at 160 pixels
SMALLER = 0.5  # power by which it grows in smaller pictures without a mask: more of an edit's soft border is outside
VIEW = 160  # pixels: short side at which pictures are measured, where they have as many
CALMER = 0.3  # share of the outside that is taken for its calmer part
SPOTS_MOST = 0.01  # share of the outside that may be visibly changed
VISIBLE = 0.1  # difference of the colours, see `Evidence.changes`, from which that is so
COLOUR_MOST = 3.5  # CIEDE2000 of the blurred colours in its typical place
ROOM = 0.03  # of the short side: so far around a mask an edit may spread
LITTLE = 0.02  # share of the outside: if no more of it is free of clear changes, all of it is measured


def measures(seen: Evidence) -> list[dict[str, Measure] | None]:
    """Of each edit, its "loss" first; None where nothing lies outside."""
    outside = _outside(seen)  # (n, h', w')
    found: list[dict[str, Measure] | None] = []
    enlarged = 1.0 if seen.where == "mask" else max(1.0, VIEW / min(seen.edits.shape[2:]))
    most = LOSS_MOST * enlarged**SMALLER
    for i, ((lost, floor), there) in enumerate(zip(_losses(seen, outside), outside, strict=True)):
        if not there.any():
            found.append(None)
            continue
        loss, drift = max(0.0, lost - floor), _drift(seen, i, there)
        own = {"loss": Measure(loss, most, f"the rest was redrawn, it loses {loss:.3f} LPIPS")}
        if seen.where == "mask":  # an estimated region has taken them in
            spots = _spots(seen, i, there)
            own["spots"] = Measure(spots, SPOTS_MOST, f"{spots:.1%} of the rest is visibly changed")
        own["colour"] = Measure(drift, COLOUR_MOST, f"the colours of the rest drift by {drift:.1f} (CIEDE2000)")
        found.append(own)
    return found


def lpips_to_source(seen: Evidence) -> list[float]:
    """The mean LPIPS of each edit to the source, where it has pixels."""
    import torch

    from ctxrep_edit import brought_down, lpips_maps

    edits, source = (brought_down(pictures, seen.scale) for pictures in (seen.edits, seen.source))
    there = brought_down(seen.seen[:, None].float(), seen.scale)[:, 0] > 0.98
    maps = lpips_maps(torch.where(there[:, None], edits, source), source)
    return [float(one[shown].double().mean()) if shown.any() else 0.0 for one, shown in zip(maps, there, strict=True)]


def _outside(seen: Evidence) -> Tensor:
    """Where each edit should be as its source, seen small, some room around a mask left out: bool (n, h', w')."""
    import torch.nn.functional as F

    from ctxrep_edit import brought_down

    inside = brought_down((~seen.outside)[:, None].float(), seen.scale)
    if seen.where == "mask":
        room = max(1, round(ROOM * min(inside.shape[2:])))
        around = brought_down(seen.regions[:, None].float(), seen.scale)
        inside = inside.maximum(F.max_pool2d(around, 2 * room + 1, 1, room))
    return inside[:, 0] < 0.02


def _losses(seen: Evidence, outside: Tensor) -> list[tuple[float, float]]:
    """Of each edit and of an untouched one, the LPIPS that the calmer part of the outside does not exceed.

    The source is pasted into the region first, and where something else is clearly changed: AlexNet sees far, and a
    change would count all over the outside (measured: docs/faithfulness.md).
    """
    import torch

    from ctxrep_edit import brought_down, lpips_maps

    source = brought_down(seen.source, seen.scale)
    rest = outside & ~seen.changed
    enough = rest.sum((1, 2)) > LITTLE * outside.sum((1, 2))
    rest = torch.where(enough[:, None, None], rest, outside)
    found = []
    for pictures in (seen.edits, seen.untouched):
        maps = lpips_maps(torch.where(rest[:, None], brought_down(pictures, seen.scale), source), source)
        found.append(
            [float(one[there].quantile(CALMER)) if there.any() else 0.0 for one, there in zip(maps, rest, strict=True)]
        )
    return list(zip(*found, strict=True))


def _spots(seen: Evidence, i: int, outside: Tensor) -> float:
    return float((seen.changes[i][outside] > VISIBLE).float().mean())


def _drift(seen: Evidence, i: int, outside: Tensor) -> float:
    """The typical CIEDE2000 difference outside, both pictures blurred there so that colour is left."""
    import numpy as np
    from scipy.ndimage import gaussian_filter
    from skimage.color import deltaE_ciede2000, rgb2lab

    from ctxrep_edit import brought_down

    there = outside.numpy().astype(np.float32)
    blur = max(2.0, 0.04 * min(there.shape))
    weight = gaussian_filter(there, blur)[..., None].clip(1e-3)
    labs = []
    for picture in (seen.edits, seen.untouched):
        small = _array(brought_down(picture[i : i + 1], seen.scale)[0])  # (h', w', 3)
        labs.append(rgb2lab((gaussian_filter(small * there[..., None], (blur, blur, 0)) / weight).clip(0, 1)))
    return float(np.median(deltaE_ciede2000(*labs)[outside.numpy()]))


def _array(picture: Tensor) -> npt.NDArray[np.float32]:
    return picture.permute(1, 2, 0).numpy()  # (h, w, 3)
