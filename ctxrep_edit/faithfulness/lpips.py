"""LPIPS: how different two pictures look, as a number, as a map, over a region, and for whole batches.

AlexNet, version 0.1, from Zhang, Isola, Efros, Shechtman, Wang, "The Unreasonable Effectiveness of Deep Features as a
Perceptual Metric", CVPR 2018, arXiv 1801.03924; computed by their package `lpips`. 0 is identical; a distance that
anyone sees at once is some tenths.
"""

import threading
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ctxrep_edit.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from ctxrep_edit.imaging import ImageLike

__all__ = ["MIN_LPIPS_SIDE", "alexnet_features", "lpips_distance", "lpips_map", "lpips_maps"]

MIN_LPIPS_SIDE = 31
"""Pixels: below it AlexNet's second pooling has nothing left to pool."""

_building = threading.Lock()


def lpips_distance(a: "ImageLike", b: "ImageLike", mask: "ImageLike | None" = None) -> float:
    """The LPIPS distance (AlexNet, v0.1) between two pictures of one size, on the CPU.

    `a` and `b` are whatever `read_image` takes. Without `mask` this is what the `lpips` package gives for the two
    8-bit RGB pictures, up to the order of summation in float32 (about 1e-7). With `mask` (as `read_mask` takes it;
    white = measure here) it is the mean of `lpips_map` over the white pixels. The network sees the whole pictures
    either way: what changed just outside the mask counts a little too, but no artificial edge does.

    Raises `InputError` for pictures of different size or with a side below `MIN_LPIPS_SIDE`, and for an empty mask;
    `WeightsError` where the weights are missing and cannot be fetched.
    """
    from ctxrep_edit.imaging import read_mask

    first, second, size = _pair(a, b)
    if mask is None:
        return float(_run(first, second, spatial=False).item())
    inside = read_mask(mask, size)  # (H, W)
    spatial: npt.NDArray[np.float32] = _run(first, second, spatial=True)[0, 0].numpy()
    return float(spatial[inside].mean(dtype="float64"))


def lpips_map(a: "ImageLike", b: "ImageLike") -> "npt.NDArray[np.float32]":
    """Where two pictures differ: float32 (H, W), each layer's LPIPS map upsampled bilinearly, summed over layers.

    This is `lpips.LPIPS(spatial=True)`. Its mean is close to `lpips_distance`, not equal: upsampling weighs the
    borders a little differently. Inputs and errors as for `lpips_distance`.
    """
    first, second, _ = _pair(a, b)
    spatial: npt.NDArray[np.float32] = _run(first, second, spatial=True)[0, 0].numpy()
    return spatial


def lpips_maps(a: "torch.Tensor", b: "torch.Tensor") -> "torch.Tensor":
    """The LPIPS maps of a batch of pairs: float32 (n, H, W), on the device of `a`.

    `a` and `b` are (n, 3, H, W) with values in [0, 1]; one of them may be (1, 3, H, W), to be compared with all of the
    other. The mean of `maps[i]` over a region is the distance there. No gradient is kept. On a GPU the TF32
    convolutions that PyTorch allows by default move the third digit.

    Raises `InputError` for other shapes, other ranges and sides below `MIN_LPIPS_SIDE`; `WeightsError` as above.
    """
    _check_batch(a, "a")
    _check_batch(b, "b")
    if a.shape[2:] != b.shape[2:] or (a.shape[0] != b.shape[0] and 1 not in (a.shape[0], b.shape[0])):
        raise InputError(
            f"Batches of shapes {tuple(a.shape)} and {tuple(b.shape)} cannot be compared. "
            "Give as many pictures in both, or one in either, all of one size."
        )
    return _run(_signed(a), _signed(b).to(a.device), spatial=True)[:, 0]


def alexnet_features(batch: "torch.Tensor", cells: int = 1) -> "torch.Tensor":
    """An embedding of each picture for similarities between pictures: float32 (n, features) of unit length.

    The activations after each of AlexNet's five ReLUs, as LPIPS sees them, averaged over each cell of a grid of
    `cells` x `cells`, each layer's vector brought to unit length, the five joined and divided by sqrt(5). The scalar
    product of two rows is hence the mean of the layers' cosines. With one cell, 1152 features, what is compared is how
    much of each colour, edge, texture and part a picture has, and not where it sits; with more, that too. No entry is
    negative, so even unlike pictures have cosines of some tenths, and a Vendi score over them stays far below n:
    compare the scores of equally many pictures, and read nothing into one alone.

    `batch` is (n, 3, H, W) with values in [0, 1]; the result is on its device. Errors as for `lpips_maps`.
    """
    import torch
    from torch.nn.functional import adaptive_avg_pool2d, normalize

    _check_batch(batch, "batch")
    model, _ = _models(str(batch.device))
    with torch.no_grad(), torch.autocast(batch.device.type, enabled=False):
        layers = model.net(model.scaling_layer(_signed(batch)))  # five of (n, c, h, w)
        if cells == 1:
            means = [layer.mean((2, 3)) for layer in layers]
        else:
            means = [adaptive_avg_pool2d(layer, cells).flatten(1) for layer in layers]
        return normalize(torch.cat([normalize(mean, dim=1) for mean in means], dim=1), dim=1)


def _pair(a: "ImageLike", b: "ImageLike") -> "tuple[torch.Tensor, torch.Tensor, tuple[int, int]]":
    """Both pictures as (1, 3, H, W) in [-1, 1], with the values that `lpips.im2tensor` gives, and their (W, H)."""
    import numpy as np
    import torch

    from ctxrep_edit.imaging import read_image

    first, second = read_image(a, name="first image"), read_image(b, name="second image")
    if first.size != second.size:
        raise InputError(
            f"The pictures differ in size: {first.width} x {first.height} and {second.width} x {second.height}. "
            f"Resize one to the other, for example b.resize({first.size})."
        )
    _check_side(first.width, first.height)
    arrays = (np.asarray(picture) / 127.5 - 1 for picture in (first, second))  # (H, W, 3), float64
    one, two = (torch.from_numpy(array).permute(2, 0, 1)[None].float().contiguous() for array in arrays)
    return one, two, first.size


def _check_side(width: int, height: int) -> None:
    if min(width, height) < MIN_LPIPS_SIDE:
        raise InputError(
            f"LPIPS needs pictures of at least {MIN_LPIPS_SIDE} pixels a side, these are {width} x {height}. "
            "Compare larger pictures, or enlarge both in the same way first."
        )


def _check_batch(batch: "torch.Tensor", name: str) -> None:
    if batch.ndim != 4 or batch.shape[0] < 1 or batch.shape[1] != 3 or not batch.is_floating_point():
        raise InputError(
            f"{name} is {batch.dtype} of shape {tuple(batch.shape)}. Give a float tensor (n, 3, H, W) in [0, 1]."
        )
    _check_side(batch.shape[3], batch.shape[2])
    low, high = (value.item() for value in batch.aminmax())
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # written so that NaN fails too
        mend = "(x + 1) / 2 mends [-1, 1]." if -1 <= low < 0 and high <= 1 else "Scale or clamp it."
        raise InputError(f"{name} has values from {low:.4g} to {high:.4g}, but they must lie in [0, 1]. {mend}")


def _signed(batch: "torch.Tensor") -> "torch.Tensor":
    return batch.detach().float() * 2 - 1  # [0, 1] -> [-1, 1]


def _run(a: "torch.Tensor", b: "torch.Tensor", *, spatial: bool) -> "torch.Tensor":
    """LPIPS of batches in [-1, 1]: (n, 1, 1, 1), or its maps (n, 1, H, W)."""
    import torch

    plain, mapping = _models(str(a.device))
    with torch.no_grad(), torch.autocast(a.device.type, enabled=False):
        result: torch.Tensor = (mapping if spatial else plain)(a, b)
    return result


def _models(device: str) -> tuple[Any, Any]:
    with _building:
        return _built(device)


@lru_cache(maxsize=4)
def _built(device: str) -> tuple[Any, Any]:
    """Once per process and device."""
    from ctxrep_edit.faithfulness.lpips_network import load_networks

    return load_networks(device)
