"""Pictures that anybody made, brought to the one size at which they are measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from ctxrep_edit.errors import InputError
from ctxrep_edit.imaging import ImageLike, check_aspect, mask_picture, read_image, shrink_mask, to_tensor

LONGEST = 768  # pixels: longer sides are brought down to it before anything is measured
SHORTEST = 64  # pixels: shorter sides are brought up to it, for LPIPS


@dataclass(frozen=True)
class Given:
    """picture: the source at the size that is measured at. source: the same as (1, 3, h, w), edits: (n, 3, h, w), both
    in [0, 1]. mask: bool (h, w), or None. sizes: (width, height) as given, of the source, then of the edits."""

    picture: Image.Image
    source: Tensor
    edits: Tensor
    mask: Tensor | None
    sizes: list[tuple[int, int]]


def read_given(source: ImageLike, edits: Sequence[ImageLike], mask: ImageLike | None) -> Given:
    """Parameters and errors are those of `assess`."""
    before = read_image(source, name="source")
    check_aspect(before, "source")
    if not isinstance(edits, Sequence) or isinstance(edits, str | bytes):
        raise InputError(f"edits is a {type(edits).__name__}, but must be a list of pictures: give [picture].")
    if not edits:
        raise InputError("There is no edit to assess: give at least one picture beside the source.")
    size = _size(*before.size)
    where = None if mask is None else shrink_mask(mask_picture(mask, before.size), size)  # (h, w)
    sizes, tensors = [before.size], []
    before = before.resize(size, Image.Resampling.LANCZOS)  # whatever its size was, one big picture is held at a time
    for i, edit in enumerate(edits):
        picture = _edit(edit, i, sizes[0])
        sizes.append(picture.size)
        tensors.append(to_tensor(picture.resize(size, Image.Resampling.LANCZOS)))
    return Given(before, to_tensor(before), torch.cat(tensors), where, sizes)


def _size(width: int, height: int) -> tuple[int, int]:
    scale = min(1.0, LONGEST / max(width, height))
    scale = max(scale, SHORTEST / min(width, height))
    return round(width * scale), round(height * scale)


def _edit(edit: ImageLike, i: int, source: tuple[int, int]) -> Image.Image:
    picture = read_image(edit, name=f"edit {i + 1}")
    ratio = picture.width / picture.height * source[1] / source[0]
    if not 1 / 1.05 <= ratio <= 1.05:
        raise InputError(
            f"edit {i + 1} is {picture.width} x {picture.height} pixels and its source {source[0]} x {source[1]}: "
            "their aspects differ by more than 5 %. Crop one of them to the other's aspect."
        )
    return picture
