"""The stock `openai` clients of Python and JavaScript, as the examples use them: n, mask, webp, events, errors."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from serving import Place

EXAMPLES = Path(__file__).parents[2] / "examples"
MODULES = [Path(os.environ.get("NODE_PATH", "")), EXAMPLES / "node_modules"]


def test_python(place: Place, png: bytes, tmp_path: Path) -> None:
    check([sys.executable, str(EXAMPLES / "openai_client.py")], place, png, tmp_path)


def test_javascript(place: Place, png: bytes, tmp_path: Path) -> None:
    """Where there is a Node, and `npm install --prefix examples` was called."""
    node = shutil.which("node")
    module = next((folder for folder in MODULES if (folder / "openai" / "package.json").is_file()), None)
    if node is None or module is None:
        pytest.skip("Needs node, and: npm install --prefix examples")
    script = tmp_path / "openai_client.mjs"
    shutil.copy(EXAMPLES / script.name, script)
    (tmp_path / "node_modules").symlink_to(module)
    check([node, str(script)], place, png, tmp_path)


def check(command: list[str], place: Place, png: bytes, folder: Path) -> None:
    (folder / "photo.png").write_bytes(png)
    mask = Image.new("L", (96, 64))
    mask.paste(255, (0, 0, 48, 64))
    mask.save(folder / "mask.png")
    names = {"OPENAI_BASE_URL": f"{place.url}/v1", "OPENAI_API_KEY": "none"}
    done = subprocess.run(
        [*command, "photo.png", "mask.png"], cwd=folder, capture_output=True, text=True, timeout=120,
        env={**os.environ, **names},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.partition(",")[0] for line in lines[:3]] == [f"edit {i + 1}: seed {7 + i}" for i in range(3)]
    assert "different ones of 3" in lines[3]
    kinds = [line.partition(" ")[0].rpartition(".")[2] for line in lines[4:-1]]
    assert kinds == ["partial_image"] * 2 + ["completed"] * 2
    assert lines[-1] == "refused: strenght: There is no parameter 'strenght': did you mean strength?"
    for i in range(3):
        with Image.open(folder / f"edit-{i + 1}.webp") as edit:
            assert (edit.format, edit.size) == ("WEBP", (96, 64))
    with Image.open(folder / "forming-2.png") as preview:
        assert preview.format == "PNG"
