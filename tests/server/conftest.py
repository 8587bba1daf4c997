"""One server for all tests, with the tiny pipeline, and a picture to send."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from serving import Place, encoded, serving


@pytest.fixture(scope="session")
def place(folder: Path) -> Iterator[Place]:
    with serving(folder) as made:
        yield made


@pytest.fixture(scope="session")
def png(picture: Image.Image) -> bytes:
    return encoded(picture.resize((96, 64)))
