"""Where an edit was made, estimated from how it differs from its source.

Pictures are compared as one sees them side by side, small: a model that redraws a picture draws all fur and foliage
anew, finely, and nobody misses the old. How much is such redrawing is taken from the calm part of the edit itself.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ctxrep_edit.imaging import brought_down

VIEW = 160  # pixels: short side at which pictures are compared
CHANGE = 0.05  # difference, in [0, 1], see `differences`, from which a pixel may count as edited
CLEAR = 0.06  # of these, what hangs together must reach it somewhere
REDRAWN = 2.5  # times what the calm part of the edit differs by in such texture: no more is redrawing
CALM = 0.7  # share of the picture that is taken for calm
MOST_REDRAWN = 0.025  # difference: calm parts never count for more
GLOBAL = 0.65  # share of pixels that differ by CHANGE from which an edit is one of the whole picture
FAINT = 0.03  # the same difference, of an edit of the whole picture that is faint
EVERYWHERE = 0.9  # share of pixels that then differ by so much
SAME = 0.015  # difference up to which a pixel counts as kept
KEPT = 0.15  # share of the source's gradients that lie in kept pixels from which it is one of a part all the same
SMALLEST = 0.001  # of the picture: a region has no smaller part
GROW = 0.015  # of the short side: by how much a region is grown


def view_scale(height: int, width: int) -> float:
    """To what share of its sides a picture is brought down to be compared; at most 1."""
    return min(1.0, VIEW / min(height, width))


def differences(edits: Tensor, untouched: Tensor) -> Tensor:
    """By how much each edit differs from the untouched source, seen small: (n, h', w') in [0, 1], h' or w' <= 160.

    The mean absolute difference of the channels, each averaged over 3 x 3 pixels first. edits: (n, 3, h, w), untouched:
    (n or 1, 3, h, w), both in [0, 1].
    """
    small = brought_down(edits - untouched, view_scale(*edits.shape[2:]))
    return F.avg_pool2d(small, 3, 1, 1, count_include_pad=False).abs().mean(1)


def estimate_regions(changes: Tensor, untouched: Tensor) -> tuple[Tensor, bool]:
    """Where each edit differs from the untouched source, bool (n, h', w'), and whether that is the whole picture.

    changes: (n, h', w'), see `differences`. untouched: (n, 3, h, w). Whether an instruction edits the whole picture or
    a part is decided over the set, by its median edit: of the whole, if nearly all is changed and little of what the
    source shows is kept. In an edit of a part, each edit's region is where it is clearly changed.
    """
    texture = _texture(untouched)  # (n, h', w')
    changed, faint = ((changes > least).float().mean((1, 2)).quantile(0.5) for least in (CHANGE, FAINT))
    kept = (texture * (changes < SAME)).sum((1, 2)) / texture.sum((1, 2)).clamp_min(1e-9)  # (n,)
    if (changed >= GLOBAL or faint >= EVERYWHERE) and kept.quantile(0.5) < KEPT:
        return torch.ones_like(changes, dtype=torch.bool), True
    return clearly_changed(changes, untouched), False


def clearly_changed(changes: Tensor, untouched: Tensor) -> Tensor:
    """Where each edit differs by more than a drift everywhere, and by more than its calm part does in such texture.

    Parameters as of `estimate_regions`; bool (n, h', w').
    """
    return torch.stack([_region(*one) for one in zip(changes, _texture(untouched), strict=True)])


def enlarged(where: Tensor, height: int, width: int) -> Tensor:
    """bool (n, h', w') at the pictures' size: (n, height, width)."""
    if where.shape[1:] == (height, width):
        return where
    return F.interpolate(where[:, None].float(), (height, width), mode="bilinear")[:, 0] > 0.5


def _region(changes: Tensor, texture: Tensor) -> Tensor:
    """Of one edit, all (h', w')."""
    import numpy as np
    from skimage.filters import apply_hysteresis_threshold
    from skimage.measure import label

    order = changes.flatten().sort().values
    drift = float(order[round(0.3 * (len(order) - 1))])
    least = np.maximum(max(CHANGE, 2 * drift), REDRAWN * _redrawn(changes, texture).numpy())  # (h', w')
    parts = label(apply_hysteresis_threshold(changes.numpy(), least, np.maximum(CLEAR, least)), connectivity=2)
    large = np.bincount(parts.ravel()) >= SMALLEST * parts.size
    large[0] = False
    grow = max(1, round(GROW * min(changes.shape)))
    return F.max_pool2d(torch.from_numpy(large[parts]).float()[None], 2 * grow + 1, 1, grow)[0] > 0


def _redrawn(changes: Tensor, texture: Tensor) -> Tensor:
    """By how much redrawing alone makes an edit differ, by texture: a line through its calm part. All (h', w')."""
    calm = changes <= changes.quantile(CALM)
    known = torch.stack([torch.ones_like(texture[calm]), texture[calm]], 1)  # (calm pixels, 2)
    line: Tensor = torch.linalg.lstsq(known, changes[calm][:, None], driver="gelsd").solution  # (2, 1)
    redrawn: Tensor = line[0] + line[1] * texture
    return redrawn.clamp(0, MOST_REDRAWN)


def _texture(pictures: Tensor) -> Tensor:
    """How strong the gradients are around each pixel, seen small: (n, 3, h, w) to (n, h', w')."""
    import numpy as np
    from scipy.ndimage import gaussian_gradient_magnitude, uniform_filter

    grey = brought_down(pictures, view_scale(*pictures.shape[2:])).mean(1).numpy()
    found = [uniform_filter(gaussian_gradient_magnitude(one, 1.0), 5) for one in grey]
    return torch.from_numpy(np.stack(found).astype(np.float32))
