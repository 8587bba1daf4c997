"""How far the pictures of a set differ, in the features of an embedder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image

from ctxrep_edit.errors import InputError, PluginError
from ctxrep_edit.plugins.contracts import Embedder
from ctxrep_edit.sampling.repeats import Distances
from ctxrep_edit.settings import is_number

if TYPE_CHECKING:
    from torch import Tensor


def vendi(images: Sequence[Image.Image], size: Sequence[int], embedder: str | Embedder) -> float:
    """Vendi score of the pictures, 1 to n, at (width, height). Raises InputError, PluginError."""
    from ctxrep_edit.repulsion.ascent import vendi_score

    return vendi_score(_features(images, size, embedder))


def distinct(images: Sequence[Image.Image], size: Sequence[int], embedder: str | Embedder, apart: float | None) -> int:
    """How many of the pictures, in their order, are farther apart from all that were counted before. See
    `EditSet.distinct_in`. Raises InputError, PluginError."""
    from ctxrep_edit.plugins import catalog

    chosen = catalog.EMBEDDERS.get(embedder)
    bound = chosen.apart if apart is None else apart
    if bound is None:
        raise InputError(f"The embedder {chosen.name} does not state how far different edits are apart: give apart=.")
    if not (is_number(bound) and 0 <= bound <= 2):
        raise InputError(f"apart is {bound!r}, but must be a number from 0 to 2: one minus a cosine.")
    found = Distances.of(_features(images, size, chosen), bound)
    return len(images) - len(found.repeats())


def _features(images: Sequence[Image.Image], size: Sequence[int], embedder: str | Embedder) -> Tensor:
    """(n, features), each row with a direction. Raises PluginError for anything else."""
    import torch

    from ctxrep_edit.imaging import to_tensors
    from ctxrep_edit.plugins import catalog

    if not images:
        raise InputError("The set holds no edit to compare. Those that were dropped are in edits.dropped.")
    width, height = size  # as sampled: large enough for AlexNet whatever the aspect
    chosen, n = catalog.EMBEDDERS.get(embedder), len(images)
    found = chosen.embed(to_tensors(images, (width, height)))
    wrong = ""
    if not isinstance(found, torch.Tensor) or not found.is_floating_point():
        wrong = f"a {getattr(found, 'dtype', type(found).__name__)}"
    elif found.ndim != 2 or len(found) != n:
        wrong = f"the shape {tuple(found.shape)}"
    elif not found.isfinite().all():
        wrong = "NaN or infinity"
    elif not found.any(dim=1).all():
        wrong = "a row of zeros, which has no direction"
    if wrong:
        raise PluginError(
            f"The embedder {chosen.name} gave {wrong}, but must give finite features ({n}, f) in floating point, a row "
            "for each picture, none all zero: take another embedder."
        )
    return found
