"""Pictures that anybody made, laid on their source and brought to the one size at which they are measured."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ctxrep_edit.errors import InputError
from ctxrep_edit.faithfulness.frames import Frame, find_frame
from ctxrep_edit.imaging import ImageLike, check_aspect, mask_picture, read_image, shrink_mask, to_tensor

LONGEST = 768  # pixels: longer sides are brought down to it before anything is measured
SHORTEST = 48  # pixels: shorter sides are brought up to it, for LPIPS


@dataclass(frozen=True)
class Given:
    """picture: the source at the size that is measured at. source: the same as (1, 3, h, w), edits: (n, 3, h, w), both
    in [0, 1]. frames: how each edit lay on the source, which is undone. mask: bool (h, w), or None. sizes: (width,
    height) as given, of the source, then of the edits. names: of the edits' files, "" where they are none."""

    picture: Image.Image
    source: Tensor
    edits: Tensor
    frames: list[Frame]
    mask: Tensor | None
    sizes: list[tuple[int, int]]
    names: list[str]


def read_given(source: ImageLike, edits: Sequence[ImageLike], mask: ImageLike | None) -> Given:
    """Parameters and errors are those of `assess`."""
    before = read_image(source, name="source")
    check_aspect(before, "source")
    if not isinstance(edits, Sequence) or isinstance(edits, str | bytes):
        raise InputError(f"edits is a {type(edits).__name__}, but must be a list of pictures: give [picture].")
    if not edits:
        raise InputError("There is no edit to assess: give at least one picture beside the source.")
    where = None if mask is None else mask_picture(mask, before.size)
    pictures, sizes, frames = [], [before.size], []
    for i, edit in enumerate(edits):
        picture = read_image(edit, name=f"edit {i + 1}")
        check_aspect(picture, f"edit {i + 1}")
        sizes.append(picture.size)
        frames.append(find_frame(before, picture))
        picture.thumbnail((2 * LONGEST, 2 * LONGEST), Image.Resampling.LANCZOS)  # one big picture is held at a time
        pictures.append(picture)
    size = _size(*before.size, min(_share(before.size, *pair) for pair in zip(sizes[1:], frames, strict=True)))
    before = before.resize(size, Image.Resampling.LANCZOS)
    tensors = [to_tensor(frame.undone(picture, before)) for frame, picture in zip(frames, pictures, strict=True)]
    small = None if where is None else shrink_mask(where, size)  # (h, w)
    return Given(before, to_tensor(before), torch.cat(tensors), frames, small, sizes, _names(edits))


def _size(width: int, height: int, share: float = 1.0) -> tuple[int, int]:
    """At which is measured: at that share of the source's sides, within bounds."""
    scale = min(share, LONGEST / max(width, height))
    scale = max(scale, SHORTEST / min(width, height))
    return round(width * scale), round(height * scale)


def _share(source: tuple[int, int], edit: tuple[int, int], frame: Frame) -> float:
    """Pixels of an edit per pixel of its source, on the side where it has fewer; at most 1."""
    left, top, right, bottom = frame.box
    return min(1.0, edit[0] / ((right - left) * source[0]), edit[1] / ((bottom - top) * source[1]))


def _names(edits: Sequence[ImageLike]) -> list[str]:
    """What to call the edits that are files: without their folders, where that tells them apart."""
    paths = [os.fspath(edit) if isinstance(edit, str | os.PathLike) else "" for edit in edits]
    short = [Path(path).name for path in paths]
    return short if max(Counter(filter(None, short)).values(), default=1) == 1 else paths
