"""How does a picture of another aspect lie on its source: stretched, cropped or padded?

Each is tried. A stretched picture is laid on the whole source; a cropped one is slid along the source, and the source
along a padded one. The one in which the directions of the gradients agree best is taken; see `registration`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from ctxrep_edit.faithfulness.registration import FIT, LARGEST, Field, correlation, orientation
from ctxrep_edit.imaging import to_tensor

if TYPE_CHECKING:
    import torch

ROUNDED = 1.01  # times: aspects that differ by no more, or by a pixel, are one
How = Literal["same", "stretched", "cropped", "padded"]


@dataclass(frozen=True)
class Frame:
    """A picture against its source.

    how: "same" where their aspects agree to the pixel. side: "width" or "height", of which the picture has `factor`
    times as much as the source, for the other side: more than 1 if stretched or padded, less if cropped. start: where
    the picture begins on that side of the source, in shares of it; 0 if stretched, negative if padded. sure: whether
    the pictures say so; else it is taken to be stretched.
    """

    how: How = "same"
    side: str = "width"
    factor: float = 1.0
    start: float = 0.0
    sure: bool = True

    def __str__(self) -> str:
        if self.how == "same":
            return "the picture has the aspect of its source"
        if self.how == "cropped":
            return f"the picture was cropped to {self.factor:.0%} of the source's {self.side}"
        verb = "was" if self.sure else "may have been"
        return f"the picture {verb} {self.how} {self.factor:.2f} times in {self.side}"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Where the whole picture lies on the source: left, top, right, bottom in shares of the source's sides."""
        if self.how in ("same", "stretched"):
            return 0.0, 0.0, 1.0, 1.0
        ends = self.start, self.start + self.factor
        return (ends[0], 0.0, ends[1], 1.0) if self.side == "width" else (0.0, ends[0], 1.0, ends[1])

    def shown(self, height: int, width: int) -> torch.Tensor:
        """Where the picture has pixels, on a source of that size: bool (height, width)."""
        import torch

        left, top, right, bottom = self.box
        rows, columns = ((torch.arange(side) + 0.5) / side for side in (height, width))
        return ((rows > top) & (rows < bottom))[:, None] & ((columns > left) & (columns < right))[None]

    def undone(self, picture: Image.Image, source: Image.Image) -> Image.Image:
        """`picture` laid on `source`, in its size; where it has no pixels, the source's."""
        left, top, right, bottom = self.box
        w, h = picture.size
        # The part of the picture that lies on the source, and where that is on the source.
        part = (-min(left, 0) / (right - left) * w, -min(top, 0) / (bottom - top) * h)
        end = ((min(right, 1) - left) / (right - left) * w, (min(bottom, 1) - top) / (bottom - top) * h)
        place = [round(max(x, 0) * side) for x, side in zip((left, top), source.size, strict=True)]
        stop = [round(min(x, 1) * side) for x, side in zip((right, bottom), source.size, strict=True)]
        size = max(1, stop[0] - place[0]), max(1, stop[1] - place[1])
        piece = picture.resize(size, Image.Resampling.LANCZOS, box=(*part, *end))
        if size == source.size:
            return piece
        whole = source.copy()
        whole.paste(piece, (place[0], place[1]))
        return whole


def find_frame(source: Image.Image, picture: Image.Image) -> Frame:
    """How `picture` lies on `source`, both RGB."""
    (w, h), (width, height) = source.size, picture.size
    ratio = width / height * h / w  # above 1: the picture has more width
    side, other = ("width", "height") if ratio > 1 else ("height", "width")
    more = max(ratio, 1 / ratio)
    if more <= ROUNDED or abs(width - height * w / h) <= 1 or abs(height - width * h / w) <= 1:
        return Frame()
    scale = LARGEST / max(w, h) if max(w, h) > LARGEST else 1.0
    size = max(1, round(w * scale)), max(1, round(h * scale))
    wide, tall = (round(size[0] * more), size[1]), (size[0], round(size[1] * more))
    small = (max(1, round(size[0] / more)), size[1]), (size[0], max(1, round(size[1] / more)))
    still = _field(source, size)
    stretched = correlation(still, _field(picture, size))
    padded, before = _slide(_field(picture, wide if side == "width" else tall), still, side)
    cropped, after = _slide(still, _field(picture, small[other == "height"]), other)
    best = max(stretched, padded, cropped)
    if best == stretched or best < FIT:
        return Frame("stretched", side, more, sure=best >= FIT)
    if best == padded:
        return Frame("padded", side, more, -before / size[side == "height"])
    return Frame("cropped", other, 1 / more, after / size[other == "height"])


def _field(picture: Image.Image, size: tuple[int, int]) -> Field:
    return orientation(to_tensor(picture.resize(size, Image.Resampling.LANCZOS))[0])


def _slide(long: Field, short: Field, side: str) -> tuple[float, float]:
    """The best correlation of `short` with a part of `long`, which has more on that side, and where the part begins."""
    if side == "height":
        long, short = long.T, short.T
    width = short.shape[1]
    found = [correlation(long[:, i : i + width], short) for i in range(long.shape[1] - width + 1)]
    best = int(np.argmax(found))
    return found[best], best + _vertex(found, best)


def _vertex(values: list[float], i: int) -> float:
    """Where between its neighbours the maximum at i lies, by a parabola: -0.5 to 0.5."""
    if not 0 < i < len(values) - 1:
        return 0.0
    before, here, after = values[i - 1 : i + 2]
    bend = before - 2 * here + after
    return 0.5 * (before - after) / bend if bend < 0 else 0.0
