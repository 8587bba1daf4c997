"""A folder with two pictures, and a way to call the command on a manifest in it."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from command_line import start
from PIL import Image

Rows = Sequence[Mapping[str, Any]]
Call = Callable[..., Result]


@pytest.fixture
def desk(tmp_path: Path, picture: Image.Image) -> Path:
    for name in ("a", "b"):
        picture.resize((48, 32)).save(tmp_path / f"{name}.png")
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return tmp_path


@pytest.fixture
def write(desk: Path) -> Callable[..., Path]:
    """Writes rows as a CSV file."""

    def made(rows: Rows, name: str = "rows.csv") -> Path:
        with open(desk / name, "w", encoding="utf-8", newline="") as stream:
            table = csv.DictWriter(stream, list(dict.fromkeys(column for row in rows for column in row)))
            table.writeheader()
            table.writerows(rows)
        return desk / name

    return made


@pytest.fixture
def call(desk: Path, folder: Path, write: Callable[..., Path]) -> Call:
    """The command on these rows, with the tiny model, into `out`."""

    def made(rows: Rows, *options: str) -> Result:
        out, place = str(desk / "out"), str(folder)
        return start("batch", str(write(rows)), "-o", out, "--model", place, "--device", "cpu", *options)

    return made
