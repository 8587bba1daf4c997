"""Scores pictures that anybody made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image

from ctxrep_edit.errors import InputError
from ctxrep_edit.imaging import ImageLike, read_image, read_mask, to_tensor

if TYPE_CHECKING:
    import torch

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
    `seed` of an edit is its number, from 0; recipe says which size was measured at.

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
    if not edits:
        raise InputError("There is no edit to assess: give at least one picture beside the source.")
    size = _size(*before.size)
    asked = [catalog.CHECKS.get(check) for check in (DEFAULT_CHECKS if checks is None else checks)]
    for check in asked:
        check.prepare()
    still = to_tensor(before.resize(size, Image.Resampling.LANCZOS))  # (1, 3, h, w)
    images = torch.cat([_edit(edit, i, before.size, size) for i, edit in enumerate(edits)])  # (n, 3, h, w)
    where = None
    if mask is not None:
        allowed = Image.fromarray(read_mask(mask, before.size)).convert("L").resize(size)
        where = to_tensor(allowed.convert("RGB"))[0, 0] >= 0.5  # (h, w)
    case = Case(still, images, where, instruction, False, lambda: still)
    n = len(images)
    recipe = {"ctxrep_edit": __version__, "model": None, "n": n, "checks": [check.name for check in asked]}
    found = Candidates(images, list(range(n)), [None] * n, 0, case, judge(case, asked), None)
    return assemble(found, before, recipe, 0.0, lambda edit: None)


def _size(width: int, height: int) -> tuple[int, int]:
    scale = min(1.0, LONGEST / max(width, height))
    scale = max(scale, SHORTEST / min(width, height))
    if max(width, height) * scale > LONGEST + 1:
        raise InputError(
            f"source is {width} x {height} pixels, too long and narrow to measure: give a part of it that is at most "
            f"{LONGEST // SHORTEST} times as long as wide."
        )
    return round(width * scale), round(height * scale)


def _edit(edit: ImageLike, i: int, source: tuple[int, int], size: tuple[int, int]) -> torch.Tensor:
    picture = read_image(edit, name=f"edit {i + 1}")
    ratio = picture.width / picture.height * source[1] / source[0]
    if not 1 / 1.05 <= ratio <= 1.05:
        raise InputError(
            f"edit {i + 1} is {picture.width} x {picture.height} pixels and its source {source[0]} x {source[1]}: "
            "their aspects differ by more than 5 %. Crop one of them to the other's aspect."
        )
    return to_tensor(picture.resize(size, Image.Resampling.LANCZOS))
