"""What embedders of others may give, of which a spread is measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ctxrep_edit import Embedder, PluginError
from ctxrep_edit.results import spread
from ctxrep_edit.testing import edit_set


class Given(Embedder):
    name = "given"
    summary = "what it was given"
    apart = 0.1

    def __init__(self, features: Any) -> None:
        self.features = features

    def embed(self, images: torch.Tensor) -> Any:
        return self.features


NAN = torch.tensor([[1.0, 0.0], [torch.nan, 1.0], [1.0, 1.0]])


@pytest.mark.parametrize(
    ("features", "what"),
    [
        (torch.ones(2, 4), r"the shape \(2, 4\)"),
        (torch.ones(3, 4, 4), r"the shape \(3, 4, 4\)"),
        (torch.ones(3), r"the shape \(3,\)"),
        (torch.ones(3, 4, dtype=torch.int64), "a torch.int64"),
        (np.ones((3, 4), np.float32), "a float32"),
        (None, "a NoneType"),
        (NAN, "NaN or infinity"),
        (NAN.nan_to_num(torch.inf), "NaN or infinity"),
        (torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]]), "a row of zeros"),
        (torch.ones(3, 0), "a row of zeros"),
    ],
)
def test_what_is_no_features(features: Any, what: str) -> None:
    edits = edit_set(3)
    for measure in (edits.vendi_in, edits.distinct_in):
        with pytest.raises(PluginError, match=rf"^The embedder given gave {what}.*, but must give finite features"):
            measure(Given(features))


def test_features_of_any_precision() -> None:
    for dtype in (torch.float16, torch.float32, torch.float64):
        assert edit_set(3).vendi_in(Given(torch.eye(3, dtype=dtype))) == pytest.approx(3)


@pytest.mark.parametrize("embedder", ["alexnet", "alexnet-layout"])
def test_one_plain_colour_has_features(embedder: str) -> None:
    plain = [Image.new("RGB", (64, 64), (value,) * 3) for value in (0, 124, 255)]
    assert spread.vendi(plain, (64, 64), embedder) >= 1
