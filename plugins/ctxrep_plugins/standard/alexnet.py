"""AlexNet, which LPIPS looks through, as embedders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctxrep_edit import Embedder

if TYPE_CHECKING:
    import torch


class AlexNet(Embedder):
    """See `ctxrep_edit.alexnet_features`. `apart` is chosen as that of `Layout`."""

    name = "alexnet"
    summary = "the activations of AlexNet that LPIPS compares, averaged over the picture"
    apart = 0.021

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        from ctxrep_edit import alexnet_features

        return alexnet_features(images)


class Layout(Embedder):
    """`ctxrep_edit.alexnet_features` of each cell of a grid. `apart` was chosen on photographs that neither training
    nor the benchmark uses; docs/method.md says how often it is right."""

    name = "alexnet-layout"
    summary = "the same for each sixteenth of the picture, so that it counts where a thing is"
    apart = 0.036
    CELLS = 4

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        from ctxrep_edit import alexnet_features

        return alexnet_features(images, self.CELLS)
