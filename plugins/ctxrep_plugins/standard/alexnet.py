"""AlexNet, which LPIPS looks through, as an embedder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctxrep_edit import Embedder

if TYPE_CHECKING:
    import torch


class AlexNet(Embedder):
    """See `ctxrep_edit.alexnet_features`."""

    name = "alexnet"
    summary = "the activations of AlexNet that LPIPS compares, averaged over the picture"

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        from ctxrep_edit import alexnet_features

        return alexnet_features(images)
