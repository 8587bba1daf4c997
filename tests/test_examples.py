"""The examples run as they stand, and leave what they say."""

import subprocess
import sys
from pathlib import Path

import pytest
import skimage
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"


PHOTO = str(Path(skimage.__file__).parent / "data" / "coffee.png")


@pytest.mark.parametrize(
    ("command", "picture"),
    [(["demo.py"], "out/demo/sheet.png"), (["own_pipeline.py", PHOTO, "change the light"], "out/own")],
)
def test_example(tmp_path: Path, command: list[str], picture: str):
    run = [sys.executable, str(EXAMPLES / command[0]), *command[1:]]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    made = tmp_path / picture
    found = [made] if made.is_file() else sorted(made.glob("*.png"))
    assert found
    for file in found:
        low, high = Image.open(file).convert("L").getextrema()
        assert high - low > 100  # a picture, not a blank
