"""Arrays and tensors as pictures, of every shape, dtype and range."""

import numpy as np
import pytest
import torch
from pictures import PIXELS, H, W, same
from PIL import Image

from ctxrep_edit.imaging import read_image, to_tensor


@pytest.mark.parametrize("kind", ["batch", "float", "float64", "uint8", "grad"])
def test_tensors_give_the_same_pixels(kind: str) -> None:
    whole = torch.from_numpy(PIXELS).permute(2, 0, 1)
    tensor = {
        "batch": whole[None] / 255,
        "float": whole / 255,
        "float64": whole.double() / 255,
        "uint8": whole,
        "grad": (whole / 255).requires_grad_(),
    }[kind]
    assert same(read_image(tensor))


def test_bfloat16_tensor_is_read() -> None:
    assert read_image(torch.ones(3, H, W, dtype=torch.bfloat16)).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("shape", [(H, W), (H, W, 1)])
def test_grey_arrays_become_rgb(shape: tuple[int, ...]) -> None:
    grey = PIXELS[:, :, 0]
    assert same(read_image(grey.reshape(shape)), np.repeat(grey[:, :, None], 3, axis=2))


def test_bool_array_is_black_and_white() -> None:
    assert np.unique(np.asarray(read_image(PIXELS[:, :, 0] > 99))).tolist() == [0, 255]


def test_grey_tensors() -> None:
    assert read_image(torch.zeros(1, H, W)).size == read_image(torch.zeros(H, W)).size == (W, H)


def test_to_tensor_round_trip() -> None:
    tensor = to_tensor(Image.fromarray(PIXELS))
    assert tensor.shape == (1, 3, H, W)
    assert tensor.dtype == torch.float32
    assert tensor.is_contiguous()
    assert 0 <= tensor.min() <= tensor.max() <= 1
    assert same(read_image(tensor))


def test_big_arrays_are_read_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctxrep_edit.imaging.arrays._STRIP", 40)  # not a whole row
    for image in (PIXELS / 255, PIXELS.astype(np.uint16) * 257, torch.from_numpy(PIXELS).permute(2, 0, 1) / 255):
        assert same(read_image(image))
