"""Is the subject still itself? Off by default: it needs a model of features."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ctxrep_plugins.checks.named_model import bytes_of, named_model

from ctxrep_edit import Case, Check, Verdict

if TYPE_CHECKING:
    from torch import Tensor

    from ctxrep_edit import ImageLike

MODEL = "CTXREP_EDIT_IDENTITY"
MEASURE = "identity of the subject"
COVERED = 0.5  # share of a patch that must be of the subject


class Identity(Check):
    """Whether the subject of an edit of its background or pose is the one of the source, by features of patches.

    Each patch of the subject is compared with the patch of the edit that is most like it, wherever that is, as a
    subject may move; the mean of these cosines is 1 if all of it is there still. Features are those of the last layer
    of a vision transformer, such as DINO (arXiv 2104.14294) or the picture half of SigLIP (arXiv 2303.15343).

    model: a hub id or folder for transformers' AutoModel; by name, the check takes it from the environment variable
    CTXREP_EDIT_IDENTITY. subject: a picture of the source's aspect, white on the subject; None: what lies outside the
    mask, and without a mask the check is not asked. least: the bound; it is to be set for the model.
    """

    name = "identity"
    summary = "whether the subject of an edited background or pose is itself; needs a model in CTXREP_EDIT_IDENTITY"

    def __init__(self, model: str | None = None, *, subject: ImageLike | None = None, least: float = 0.7) -> None:
        self.model, self.subject, self.least = model, subject, least

    def prepare(self) -> None:
        _ = self._loaded

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        """The vision model, and what prepares pictures for it."""
        from transformers import AutoImageProcessor

        from ctxrep_edit import ModelError

        needs = f"The check identity needs a model of features, such as DINO: name one in {MODEL}, or give "
        model, processor = named_model(self.model, MODEL, AutoImageProcessor, f"{needs}Identity(model).")
        model = getattr(model, "vision_model", model)  # the half of SigLIP and CLIP that sees
        sides = [getattr(model.config, side, None) for side in ("image_size", "patch_size")]
        if not all(isinstance(side, int) for side in sides):
            name = model.config.name_or_path
            raise ModelError(f"The model {name!r} sees no square patches: name a DINO, SigLIP or CLIP of transformers.")
        return model, processor

    def verdicts(self, case: Case) -> Sequence[Verdict]:
        subject = self._subject(case)  # (patches,)
        if subject is None or not subject.any():
            why = "no mask says what the subject is" if subject is None else "no patch of the model shows the subject"
            return [Verdict.not_asked(MEASURE, why)] * len(case.edits)
        before = self._patches(case.source)[0][subject]  # (patches of the subject, d)
        return [self._verdict(float((before @ after.T).amax(1).mean())) for after in self._patches(case.edits)]

    def _verdict(self, value: float) -> Verdict:
        kept = value >= self.least
        reason = f"the subject is itself to {value:.3f}, {'at least' if kept else 'below'} {self.least:.2f}"
        return Verdict(kept, MEASURE, value, self.least, reason, fault="damaged")

    @property
    def _grid(self) -> int:
        """Patches on a side."""
        config = self._loaded[0].config
        return int(config.image_size // config.patch_size)

    def _subject(self, case: Case) -> Tensor | None:
        """Which patches are of the subject: bool (patches,); None where nobody says."""
        from torch.nn.functional import adaptive_avg_pool2d

        from ctxrep_edit import read_image, to_tensor

        if self.subject is not None:
            there = to_tensor(read_image(self.subject, name="subject")).mean(1)  # (1, h, w)
        elif case.mask is not None and not case.mask.all():
            there = (~case.mask).float()[None]
        else:
            return None
        return adaptive_avg_pool2d(there, self._grid)[0].flatten() > COVERED

    def _patches(self, images: Tensor) -> Tensor:
        """(n, 3, h, w) in [0, 1], each brought to the model's square, to unit features: (n, patches, d)."""
        import torch
        from torch.nn.functional import normalize

        model, processor = self._loaded
        side, patches = model.config.image_size, self._grid**2
        square = {"size": {"height": side, "width": side}, "do_center_crop": False}
        with torch.no_grad():
            given = processor(bytes_of(images), return_tensors="pt", **square)
            found = model(pixel_values=given["pixel_values"]).last_hidden_state
        return normalize(found[:, -patches:], dim=-1)  # what comes before them is of the whole picture
