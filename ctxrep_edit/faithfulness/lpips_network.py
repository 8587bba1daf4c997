"""The authors' network of LPIPS, built so that nobody else in the process notices.

The classes of the package `lpips` compute. Their constructors are passed by: they draw from torch's generator, and call
torchvision by an argument that warns. Here layers are made without values on the device "meta", which only this thread
sees, and given their weights.
"""

from __future__ import annotations

import copy
from importlib.metadata import distribution
from typing import Any

import lpips  # type: ignore[import-untyped]
import torch
from torch import nn
from torchvision.models import alexnet  # type: ignore[import-untyped]

from ctxrep_edit.faithfulness.lpips_weights import load_alexnet_features

SLICES = ((0, 2), (2, 5), (5, 8), (8, 10), (10, 12))  # of AlexNet's layers, after which LPIPS compares
CHANNELS = (64, 192, 384, 256, 256)


class _Trunk(lpips.pretrained_networks.alexnet):  # type: ignore[misc]
    """AlexNet up to its last ReLU."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        layers = alexnet(weights=None).features
        for number, (first, last) in enumerate(SLICES, 1):
            part = nn.Sequential()
            for i in range(first, last):
                part.add_module(str(i), layers[i])
            self.add_module(f"slice{number}", part)


class _Lpips(lpips.LPIPS):  # type: ignore[misc]
    """`lpips.LPIPS(net="alex", version="0.1")`."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.lpips, self.version, self.spatial = True, "0.1", False
        self.L = len(CHANNELS)
        self.scaling_layer = lpips.ScalingLayer()
        with torch.device("meta"):
            self.net = _Trunk()
            self.lins = nn.ModuleList(lpips.NetLinLayer(channels, use_dropout=True) for channels in CHANNELS)


def load_networks(device: str) -> tuple[Any, Any]:
    """`lpips.LPIPS` without and with spatial maps, sharing their weights.

    Raises WeightsError where AlexNet's weights are missing and cannot be fetched.
    """
    plain = _Lpips()
    state = {f"scaling_layer.{name}": value for name, value in plain.scaling_layer.state_dict().items()}
    for key, tensor in load_alexnet_features().items():  # features.3.weight
        name = key.removeprefix("features.")
        number = next(n for n, (first, last) in enumerate(SLICES, 1) if first <= int(name.split(".")[0]) < last)
        state[f"net.slice{number}.{name}"] = tensor
    file = distribution("lpips").locate_file("lpips/weights/v0.1/alex.pth")
    for key, tensor in torch.load(str(file), map_location="cpu", weights_only=True).items():  # lin0.model.1.weight
        number, _, name = key.removeprefix("lin").partition(".")
        state[f"lins.{number}.{name}"] = tensor
    plain.load_state_dict(state, assign=True)
    plain = plain.eval().requires_grad_(False).to(device)
    mapping = copy.copy(plain)  # shares every layer; only the switch differs
    mapping.spatial = True
    return plain, mapping
