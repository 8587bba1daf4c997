"""Scores pictures that anybody made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image

from ctxrep_edit.errors import InputError
from ctxrep_edit.imaging import ImageLike, check_aspect, read_image, read_mask, shrink_mask, to_tensor

if TYPE_CHECKING:
    from ctxrep_edit.contracts import Check
    from ctxrep_edit.editset import EditSet

LONGEST = 768  # pixels: longer sides are brought down to it before anything is measured
SHORTEST = 64  # pixels: shorter sides are brought up to it, for LPIPS


def assess(
    source: ImageLike,
    edits: Sequence[ImageLike],
    mask: ImageLike | None = None,
    *,
    checks: Sequence[str | Check] | None = None,
    instruction: str = "",
) -> EditSet:
    """The `edits` of `source`, whoever made them, as a set with verdicts, regions and spread.

    All pictures are brought to one size by Lanczos: that of the source, made smaller in its aspect where its longer
    side is above 768 pixels, and larger where its shorter one is below 64. An edit whose aspect differs by more
    than 5 % is refused. mask: where edits were allowed, of the size of `source`, as in `diverse_edit`. checks: None
    asks the default ones. As no autoencoder is known, what an edit may lose is counted from the source itself. The
    `seed` of an edit is its number, from 0; recipe says at which `size` was measured, and which were `given`: the
    source's, then the edits'.

    Raises InputError for pictures that cannot be used, for no edits, and for a source that is more than twelve times
    as long as wide; WeightsError.
    """
    import torch

    from ctxrep_edit import __version__, catalog
    from ctxrep_edit.api import DEFAULT_CHECKS
    from ctxrep_edit.assembling import assemble
    from ctxrep_edit.contracts import Case
    from ctxrep_edit.judging import judge
    from ctxrep_edit.retrying import Candidates

    before = read_image(source, name="source")
    check_aspect(before, "source")
    if not isinstance(edits, Sequence) or isinstance(edits, str | bytes):
        raise InputError(f"edits is a {type(edits).__name__}, but must be a list of pictures: give [picture].")
    if not edits:
        raise InputError("There is no edit to assess: give at least one picture beside the source.")
    size = _size(*before.size)
    asked = [catalog.CHECKS.get(check) for check in (DEFAULT_CHECKS if checks is None else checks)]
    for check in asked:
        check.prepare()
    where = None
    if mask is not None:
        where = shrink_mask(Image.fromarray(read_mask(mask, before.size)).convert("L"), size)  # (h, w)
    given, tensors = [before.size], []
    before = before.resize(size, Image.Resampling.LANCZOS)  # whatever its size was, one big picture is held at a time
    still = to_tensor(before)  # (1, 3, h, w)
    for i, edit in enumerate(edits):
        picture = _edit(edit, i, given[0])
        given.append(picture.size)
        tensors.append(to_tensor(picture.resize(size, Image.Resampling.LANCZOS)))
    images = torch.cat(tensors)  # (n, 3, h, w)
    case = Case(still, images, where, instruction, False, lambda: still)
    n = len(images)
    recipe: dict[str, Any] = {"ctxrep_edit": __version__, "model": None, "n": n}
    recipe |= {"checks": [check.name for check in asked], "given": [list(one) for one in given]}
    found = Candidates(images, list(range(n)), [None] * n, 0, case, judge(case, asked), None)
    return assemble(found, before, recipe, 0.0, lambda edit: None)


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
