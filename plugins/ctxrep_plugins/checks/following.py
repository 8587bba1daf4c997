"""Does an edit follow the instruction? Off by default: it needs a CLIP model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ctxrep_plugins.checks.named_model import bytes_of, named_model

from ctxrep_edit import Case, Check, Verdict

if TYPE_CHECKING:
    from torch import Tensor

MODEL = "CTXREP_EDIT_CLIP"


class Following(Check):
    """Directional similarity in CLIP space (Gal et al., "StyleGAN-NADA", arXiv 2108.00946).

    The cosine of how the picture moved, from source to edit, with how its description moved, from `before` to the
    instruction: 1 if the edit did nothing else, about 0 if it did something else, 0 for an unchanged picture.

    model: a hub id or folder of a CLIP model for transformers; by name, the check takes it from the environment
    variable CTXREP_EDIT_CLIP. least: the bound; small positive values are common, and it is to be set for the model.
    """

    name = "following"
    summary = "directional CLIP similarity of edit and instruction; needs a model in CTXREP_EDIT_CLIP"

    def __init__(self, model: str | None = None, *, least: float = 0.05, before: str = "a photo") -> None:
        self.model, self.least, self.before = model, least, before

    def prepare(self) -> None:
        _ = self._loaded

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from transformers import AutoProcessor

        needs = f"The check following needs a CLIP model: name one in {MODEL}, or give Following(model)."
        return named_model(self.model, MODEL, AutoProcessor, needs, "CLIP model")

    def verdicts(self, case: Case) -> Sequence[Verdict]:
        import torch
        from torch.nn.functional import cosine_similarity

        pictures = self._pictures(torch.cat([case.source, case.edits]))  # (1 + n, d)
        words = self._words([self.before, *case.instructions])  # (1 + n, d)
        values = cosine_similarity(pictures[1:] - pictures[:1], words[1:] - words[:1])  # (n,)
        return [self._verdict(float(value)) for value in values]

    def _verdict(self, value: float) -> Verdict:
        kept = value >= self.least
        reason = (
            f"the edit goes {value:.3f} of the instruction's way, {'at least' if kept else 'below'} {self.least:.2f}"
        )
        return Verdict(kept, "directional similarity", value, self.least, reason)

    def _pictures(self, images: Tensor) -> Tensor:
        import torch
        from torch.nn.functional import normalize

        model, processor = self._loaded
        with torch.no_grad():
            given = processor.image_processor(bytes_of(images), return_tensors="pt")
            return normalize(_pooled(model.get_image_features(**given)), dim=-1)

    def _words(self, texts: list[str]) -> Tensor:
        import torch
        from torch.nn.functional import normalize

        model, processor = self._loaded
        with torch.no_grad():
            given = processor.tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
            return normalize(_pooled(model.get_text_features(**given)), dim=-1)


def _pooled(features: Any) -> Tensor:
    """transformers 5 gives an output with the projected embedding, earlier versions the embedding itself."""
    found: Tensor = getattr(features, "pooler_output", features)
    return found
