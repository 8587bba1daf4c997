"""kontext-nano, and a crop of a photograph that it never saw."""

import numpy as np
import pytest
from ctxrep_plugins.nano.world import photos

from ctxrep_edit import load_pipeline


@pytest.fixture(scope="module")
def pipeline():
    return load_pipeline("kontext-nano")


@pytest.fixture(scope="module")
def crop() -> np.ndarray:
    picture = photos.crop(photos.held_out()[:1], (64, 64), np.random.default_rng(3))
    return (np.round(picture * 255) / 255).astype(np.float32)
