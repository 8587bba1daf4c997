"""LPIPS as tensors: AlexNet's convolutions, and the weight of each of their channels.

Every operation is that of `lpips.LPIPS(net="alex", version="0.1")`, in its order, so that the numbers are the same to
the last bit. Nothing is initialised before the weights are there: building it draws no random number and sets no state
of the process, as constructing that class does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import distribution

import torch
from torch import Tensor
from torch.nn import functional

from ctxrep_edit.faithfulness.lpips_weights import load_alexnet_features

_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of ImageNet, for values in [-1, 1]
_STRIDES, _PADDINGS, _POOLED = (4, 1, 1, 1, 1), (2, 2, 1, 1, 1), (False, True, True, False, False)
_EPS = 1e-10


@dataclass(frozen=True)
class Network:
    """convolutions: weight and bias of AlexNet's five. linear: five of (1, c, 1, 1), how much each channel counts."""

    convolutions: tuple[tuple[Tensor, Tensor], ...]
    linear: tuple[Tensor, ...]
    shift: Tensor
    scale: Tensor

    def layers(self, images: Tensor) -> Iterator[Tensor]:
        """The activations after each ReLU, (n, c, h, w), of (n, 3, H, W) in [-1, 1]."""
        values = (images - self.shift) / self.scale
        for (weight, bias), stride, padding, pooled in zip(
            self.convolutions, _STRIDES, _PADDINGS, _POOLED, strict=True
        ):
            values = functional.max_pool2d(values, 3, 2) if pooled else values
            values = functional.conv2d(values, weight, bias, stride, padding).relu()
            yield values

    def distance(self, a: Tensor, b: Tensor, *, spatial: bool) -> Tensor:
        """LPIPS of batches in [-1, 1]: (n, 1, 1, 1), or its maps (n, 1, H, W)."""
        total = torch.zeros((), device=a.device)
        for one, two, linear in zip(self.layers(a), self.layers(b), self.linear, strict=True):
            apart = functional.conv2d((_unit(one) - _unit(two)) ** 2, linear)  # (n, 1, h, w)
            total = total + (
                functional.interpolate(apart, a.shape[2:], mode="bilinear", align_corners=False)
                if spatial
                else apart.mean([2, 3], keepdim=True)
            )
        return total


def load_network(device: str) -> Network:
    """Raises WeightsError where AlexNet's weights are missing and cannot be fetched."""
    trunk = load_alexnet_features()
    file = distribution("lpips").locate_file("lpips/weights/v0.1/alex.pth")
    linear = torch.load(str(file), map_location="cpu", weights_only=True)
    return Network(
        tuple(
            (trunk[f"features.{i}.weight"].to(device), trunk[f"features.{i}.bias"].to(device)) for i in (0, 3, 6, 8, 10)
        ),
        tuple(linear[f"lin{i}.model.1.weight"].to(device) for i in range(5)),
        torch.tensor(_SHIFT, device=device)[:, None, None],
        torch.tensor(_SCALE, device=device)[:, None, None],
    )


def _unit(layer: Tensor) -> Tensor:
    """(n, c, h, w) with each position's channels brought to unit length."""
    return layer / (torch.sqrt(torch.sum(layer**2, dim=1, keepdim=True)) + _EPS)
