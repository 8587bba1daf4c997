"""Has an edit come back shifted, zoomed or stretched? Registration of an edit to its source, and the way back.

Orientation correlation (Fitch, Kadyrov, Christmas, Kittler, "Orientation correlation", BMVC 2002): pictures are
compared by the direction of their gradients, which light, colour and style hardly change. The shift is scikit-image's
`phase_cross_correlation` (Guizar-Sicairos et al. 2008), tried at each of several zooms, and refined below a pixel
together with the zoom of each side by maximising the correlation. Where a mask allows the edit, nothing is compared.
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
SLIGHT = 0.006  # of the longer side: up to it a motion is undone for measuring, and no fault
SLIGHT_GAIN = 0.015  # of correlation: for which it is believed
LEAST = 0.1  # pixels of the search: a smaller displacement is none
TOLD = 0.5  # percent: smaller parts of a motion are not worth a word
ROOM = 0.03  # of the shortest side: so far around a mask nothing is compared either
LARGEST = 256  # pixels: longer sides are brought down to it for the search; a fraction of a pixel is still found

Grey = npt.NDArray[np.float32]
Field = npt.NDArray[np.complex64]


@dataclass(frozen=True)
class Motion:
    """Where the source's content lies in the edit: moved by dx, dy pixels (right, down) and zoomed about the centre.

    displacement: of the picture's most moved corner, in pixels. slight: up to how many pixels that is no fault.
    stretch: how many times more the height was zoomed than the width; `zoom` is the geometric mean of both. size:
    (width, height) of the picture.
    """

    dx: float = 0.0
    dy: float = 0.0
    zoom: float = 1.0
    displacement: float = 0.0
    slight: float = 0.5
    stretch: float = 1.0
    size: tuple[int, int] = (1, 1)

    def __bool__(self) -> bool:
        return self.displacement > 0

    def __str__(self) -> str:
        """In words: "shifted 1.0 % to the left and 0.8 % up, zoomed in by 3.0 %, stretched 1.02 times in height"."""
        told = []
        shares = [100 * shift / side for shift, side in zip((self.dx, self.dy), self.size, strict=True)]
        names = ("to the right", "to the left"), ("down", "up")
        ways = [
            f"{abs(share):.1f} % {name[share < 0]}"
            for share, name in zip(shares, names, strict=True)
            if abs(share) >= TOLD
        ]
        if ways:
            told.append("shifted " + " and ".join(ways))
        if abs(self.zoom - 1) >= TOLD / 100:
            told.append(f"zoomed {'in' if self.zoom > 1 else 'out'} by {100 * abs(self.zoom - 1):.1f} %")
        more = max(self.stretch, 1 / self.stretch)
        if more - 1 >= TOLD / 100:
            told.append(f"stretched {more:.2f} times in {'height' if self.stretch > 1 else 'width'}")
        return ", ".join(told) or "hardly moved"

    @property
    def moved(self) -> bool:
        """Whether it is more than slight."""
        return self.displacement > self.slight

    @property
    def zooms(self) -> tuple[float, float]:
        """Of height and width."""
        return self.zoom * self.stretch**0.5, self.zoom / self.stretch**0.5


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

    def compared(self, allowed: Tensor | None) -> npt.NDArray[np.float32]:
        """At the size of the search, 1 where pictures are compared and 0 where the edit is allowed, bool (h, w)."""
        from scipy.ndimage import maximum_filter

        if allowed is None or allowed.all():
            return np.ones(self.grey.shape, np.float32)
        near = self.brought_down(allowed.numpy().astype(np.float32)) > 0.02
        around = maximum_filter(near, 2 * round(ROOM * min(near.shape)) + 1)
        return np.asarray(~around, np.float32)

    @cached_property
    def is_flat(self) -> bool:
        return not _field(self.grey).any()

    @cached_property
    def spectra(self) -> list[tuple[float, npt.NDArray[np.complex128]]]:
        """Of the gradients, at each zoom."""
        return [(zoom, np.fft.fft2(_field(_warp(self.grey, 0, 0, (zoom, zoom))))) for zoom in ZOOMS]


def find_motion(source: Tensor | Still, edit: Tensor, allowed: Tensor | None = None) -> Motion:
    """The motion of `edit` against `source`, both (3, h, w) in [0, 1]; none where it explains too little.

    allowed: bool (h, w), where the edit may differ and is not looked at; None: nowhere.
    """
    from scipy.optimize import minimize
    from skimage.registration import phase_cross_correlation

    source = source if isinstance(source, Still) else Still(source)
    still, compared = source.grey, source.compared(allowed)
    field = _field(source.brought_down(_grey(edit))) * compared
    if source.is_flat or not field.any():  # a flat picture has moved nowhere
        return Motion()
    spectrum = np.fft.fft2(field)

    def likeness(motion: npt.NDArray[np.float64]) -> float:
        dy, dx, tall, wide = motion
        return correlation(_field(_warp(still, dy, dx, (1 + tall / 50, 1 + wide / 50))) * compared, field)

    best = np.zeros(4)  # dy, dx, 50 (zoom - 1) of height and of width: each counts about as much
    unmoved = most = likeness(best)
    for zoom, at_zoom in source.spectra:
        shift = phase_cross_correlation(spectrum, at_zoom, space="fourier", normalization=None)[0]
        motion = np.array([*shift, 50 * (zoom - 1), 50 * (zoom - 1)])
        if np.abs(shift).max() <= REACH * min(still.shape) and (found := likeness(motion)) > most:
            best, most = motion, found
    if most - unmoved < GAIN / 2:
        best = np.zeros(4)
    simplex = best + np.vstack([np.zeros(4), 0.5 * np.eye(4)])
    options = {"initial_simplex": simplex, "xatol": 0.02, "fatol": 1e-4, "maxiter": 160}
    refined = minimize(lambda motion: -likeness(motion), best, method="Nelder-Mead", options=options)
    return _believed(refined.x, -refined.fun, unmoved, source)


def _believed(found: npt.NDArray[np.float64], likeness: float, unmoved: float, source: Still) -> Motion:
    """The motion found, (dy, dx, 50 (zoom - 1) of height and width) in pixels of the search; none if it is unlikely."""
    scale, (h, w) = source.scale, source.shape
    dy, dx = (float(shift) * scale for shift in found[:2])
    tall, wide = (1 + float(zoom) / 50 for zoom in found[2:])
    corner = float(np.hypot(abs(dx) + abs(wide - 1) * w / 2, abs(dy) + abs(tall - 1) * h / 2))
    slight = max(0.5 * scale, SLIGHT * max(h, w))
    least = unmoved + SLIGHT_GAIN if corner <= slight else max(FIT, unmoved + GAIN)
    within = all(ZOOMS[0] - 0.02 < zoom < ZOOMS[-1] + 0.02 for zoom in (tall, wide))
    if likeness < least or not within or corner < LEAST * scale:
        return Motion(slight=slight)
    return Motion(dx, dy, (tall * wide) ** 0.5, corner, slight, tall / wide, (w, h))


def move(picture: Tensor, motion: Motion) -> Tensor:
    """`picture`, (3, h, w) in [0, 1], with the motion done to it; its border is repeated where nothing is known."""
    import torch

    there = [_warp(channel, motion.dy, motion.dx, motion.zooms, order=3) for channel in picture.numpy()]
    return torch.from_numpy(np.stack(there).clip(0, 1).astype(np.float32))


def move_back(edit: Tensor, motion: Motion) -> tuple[Tensor, Tensor]:
    """`edit`, (3, h, w) in [0, 1], with the motion undone, and where it has pixels for that: bool (h, w).

    Where it has none, its border is repeated. Interpolated by cubic splines.
    """
    import torch

    rows, columns = edit.shape[1:]
    back = [_warp(channel, motion.dy, motion.dx, motion.zooms, undo=True, order=3) for channel in edit.numpy()]
    tall, wide = motion.zooms
    seen = np.outer(_inside(rows, tall, motion.dy), _inside(columns, wide, motion.dx))
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


def _warp(grey: Grey, dy: float, dx: float, zooms: tuple[float, float], *, undo: bool = False, order: int = 1) -> Grey:
    """The picture zoomed about its centre, height and width each, then moved; or that undone."""
    from scipy.ndimage import affine_transform

    centre = (np.array(grey.shape) - 1) / 2
    shift = np.array([dy, dx])
    scale = np.array(zooms) if undo else 1 / np.array(zooms)  # from a place in the result to the place in `grey`
    offset = centre * (1 - scale) + (shift if undo else -shift * scale)
    return np.asarray(affine_transform(grey, scale, offset, order=order, mode="nearest"), np.float32)
