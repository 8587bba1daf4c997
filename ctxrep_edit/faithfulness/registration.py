"""Has an edit come back shifted or zoomed? Registration of an edit to its source, and the way back.

Orientation correlation (Fitch, Kadyrov, Christmas, Kittler, "Orientation correlation", BMVC 2002): pictures are
compared by the direction of their gradients, which light, colour and style hardly change. The shift is scikit-image's
`phase_cross_correlation` (Guizar-Sicairos et al. 2008), tried at each of several zooms, and refined below a pixel
together with the zoom by maximising the correlation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ctxrep_edit.imaging import luma

if TYPE_CHECKING:
    from torch import Tensor

ZOOMS = np.arange(0.86, 1.15, 0.02)
REACH = 0.2  # of the shortest side: no larger shift is looked for
GAIN = 0.1  # of correlation: what moving the source back must win before a motion is believed
FIT = 0.25  # correlation that a motion must reach to be believed
LARGEST = 256  # pixels: longer sides are brought down to it for the search; a fraction of a pixel is still found

Grey = npt.NDArray[np.float32]
Field = npt.NDArray[np.complex64]


@dataclass(frozen=True)
class Motion:
    """Where the source's content lies in the edit: moved by dx, dy pixels (right, down) and zoomed about the centre.

    displacement: of the picture's most moved corner, in pixels. step: what half a pixel of the search amounts to, in
    pixels of the picture; a displacement below it counts as none.
    """

    dx: float = 0.0
    dy: float = 0.0
    zoom: float = 1.0
    displacement: float = 0.0
    step: float = 0.5

    def __bool__(self) -> bool:
        return self.displacement > 0


def orientation(picture: Tensor) -> Field:
    """The gradients of the slightly blurred luma, (3, h, w) in [0, 1] to complex (h, w), of length below 1.

    Gradients well above the median have a length near 1, whatever the contrast is.
    """
    return _field(_grey(picture))


class Still:
    """A source that edits are registered to, prepared once for all of them. picture: (3, h, w) in [0, 1]."""

    def __init__(self, picture: Tensor) -> None:
        grey = _grey(picture)
        self.shape = grey.shape
        self.scale = max(1.0, max(grey.shape) / LARGEST)
        self.grey = self.brought_down(grey)

    def brought_down(self, grey: Grey) -> Grey:
        """A picture of its size, at the size of the search."""
        return _smaller(grey, self.scale) if self.scale > 1 else grey

    @cached_property
    def is_flat(self) -> bool:
        return not _field(self.grey).any()

    @cached_property
    def spectra(self) -> list[tuple[float, npt.NDArray[np.complex128]]]:
        """Of the gradients, at each zoom."""
        return [(zoom, np.fft.fft2(_field(_warp(self.grey, 0, 0, zoom)))) for zoom in ZOOMS]


def find_motion(source: Tensor | Still, edit: Tensor) -> Motion:
    """The motion of `edit` against `source`, both (3, h, w) in [0, 1]; none where it explains too little."""
    from scipy.optimize import minimize
    from skimage.registration import phase_cross_correlation

    source = source if isinstance(source, Still) else Still(source)
    still, scale = source.grey, source.scale
    field = _field(source.brought_down(_grey(edit)))
    if source.is_flat or not field.any():  # a flat picture has moved nowhere
        return Motion(step=0.5 * scale)
    spectrum = np.fft.fft2(field)

    def likeness(motion: npt.NDArray[np.float64]) -> float:
        return correlation(_field(_warp(still, motion[0], motion[1], 1 + motion[2] / 50)), field)

    best = np.zeros(3)  # dy, dx, 50 (zoom - 1): each counts about as much
    unmoved = most = likeness(best)
    for zoom, at_zoom in source.spectra:
        shift = phase_cross_correlation(spectrum, at_zoom, space="fourier", normalization=None)[0]
        motion = np.array([*shift, 50 * (zoom - 1)])
        if np.abs(shift).max() <= REACH * min(still.shape) and (found := likeness(motion)) > most:
            best, most = motion, found
    if most - unmoved < GAIN / 2:
        return Motion(step=0.5 * scale)
    simplex = best + np.vstack([np.zeros(3), 0.5 * np.eye(3)])
    options = {"initial_simplex": simplex, "xatol": 0.02, "fatol": 1e-4, "maxiter": 100}
    refined = minimize(lambda motion: -likeness(motion), best, method="Nelder-Mead", options=options)
    dy, dx, zoom = refined.x[0] * scale, refined.x[1] * scale, 1 + refined.x[2] / 50
    h, w = source.shape
    corner = float(np.hypot(abs(dx) + abs(zoom - 1) * w / 2, abs(dy) + abs(zoom - 1) * h / 2))
    unlikely = -refined.fun < max(FIT, unmoved + GAIN) or not ZOOMS[0] - 0.02 < zoom < ZOOMS[-1] + 0.02
    if unlikely or corner < 0.5 * scale:
        return Motion(step=0.5 * scale)
    return Motion(float(dx), float(dy), float(zoom), corner, 0.5 * scale)


def move(picture: Tensor, motion: Motion) -> Tensor:
    """`picture`, (3, h, w) in [0, 1], with the motion done to it; its border is repeated where nothing is known."""
    import torch

    there = [_warp(channel, motion.dy, motion.dx, motion.zoom, order=3) for channel in picture.numpy()]
    return torch.from_numpy(np.stack(there).clip(0, 1).astype(np.float32))


def move_back(edit: Tensor, motion: Motion) -> tuple[Tensor, Tensor]:
    """`edit`, (3, h, w) in [0, 1], with the motion undone, and where it has pixels for that: bool (h, w).

    Where it has none, its border is repeated. Interpolated by cubic splines.
    """
    import torch

    rows, columns = edit.shape[1:]
    back = [_warp(channel, motion.dy, motion.dx, motion.zoom, undo=True, order=3) for channel in edit.numpy()]
    seen = np.outer(_inside(rows, motion.zoom, motion.dy), _inside(columns, motion.zoom, motion.dx))
    return torch.from_numpy(np.stack(back).clip(0, 1).astype(np.float32)), torch.from_numpy(seen)


def _inside(size: int, zoom: float, shift: float) -> npt.NDArray[np.bool_]:
    """Which of `size` source positions lie within the edit once moved."""
    centre = (size - 1) / 2
    place = (np.arange(size) - centre) * zoom + centre + shift
    return np.asarray((place >= -0.5) & (place <= size - 0.5))


def _grey(picture: Tensor) -> Grey:
    return luma(np.moveaxis(picture.numpy(), 0, -1))


def _smaller(grey: Grey, scale: float) -> Grey:
    from skimage.transform import resize

    shape = [max(1, round(side / scale)) for side in grey.shape]
    return np.asarray(resize(grey, shape, anti_aliasing=True), np.float32)


def _field(grey: Grey) -> Field:
    from scipy.ndimage import gaussian_filter

    smooth = np.pad(gaussian_filter(grey, 0.7), 1, mode="edge")
    dy, dx = smooth[2:, 1:-1] - smooth[:-2, 1:-1], smooth[1:-1, 2:] - smooth[1:-1, :-2]
    length = np.hypot(dx, dy)
    return np.asarray((dx + 1j * dy) / (length + np.median(length) + 2e-3), np.complex64)


def correlation(a: Field, b: Field) -> float:
    """How well the directions of two pictures' gradients agree: at most 1, about 0 for strangers."""
    power = float((np.abs(a) ** 2).sum() * (np.abs(b) ** 2).sum())
    return float((a * b.conj()).real.sum() / np.sqrt(max(power, 1e-12)))


def _warp(grey: Grey, dy: float, dx: float, zoom: float, *, undo: bool = False, order: int = 1) -> Grey:
    """The picture zoomed about its centre, then moved; or that undone."""
    from scipy.ndimage import affine_transform

    centre = (np.array(grey.shape) - 1) / 2
    shift = np.array([dy, dx])
    scale = zoom if undo else 1 / zoom  # from a place in the result to the place in `grey`
    offset = centre * (1 - scale) + (shift if undo else -shift * scale)
    return np.asarray(affine_transform(grey, [scale, scale], offset, order=order, mode="nearest"), np.float32)
