"""The worker of Celery, as its page of help starts it, with a broker that is a folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import skimage
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"
PHOTO = str(Path(skimage.__file__).parent / "data" / "coffee.png")
BROKER = """
broker_url = "filesystem://"
broker_transport_options = {"data_folder_in": "broker", "data_folder_out": "broker", "control_folder": "control"}
result_backend = "file://results"
"""
ASK = """
import json, sys
from celery_worker import edit
wanted = ["change the light", "change the light", "change the style"]
asked = [edit.delay("order-7", sys.argv[1], words, n=2, preserve="off") for words in wanted]
first, second, third = [one.get(timeout=150, propagate=False) for one in asked]
print(json.dumps([first, first == second, str(third)]))
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    for name in ("broker", "control", "results"):
        (tmp_path / name).mkdir()
    (tmp_path / "celeryconfig.py").write_text(BROKER)
    path = os.pathsep.join([str(EXAMPLES), str(tmp_path), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path}


@pytest.fixture
def worker(tmp_path: Path, environment: dict[str, str]) -> Iterator[None]:
    command = [sys.executable, "-m", "celery", "-A", "celery_worker", "worker", "--pool", "solo", "--loglevel", "INFO"]
    with open(tmp_path / "log.txt", "w") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
        yield
        process.terminate()
        assert process.wait(60) == 0, (tmp_path / "log.txt").read_text()


@pytest.mark.usefixtures("worker")
def test_a_set_is_made_once(tmp_path: Path, environment: dict[str, str]) -> None:
    asked = [sys.executable, "-c", ASK, PHOTO]
    done = subprocess.run(asked, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr + (tmp_path / "log.txt").read_text()
    made, again, refused = json.loads(done.stdout)
    assert again
    assert "order-7 was another set, 'change the light'" in refused
    folder = tmp_path / "orders" / "order-7"
    assert json.loads((folder / "edits.json").read_text()) == made
    for one in made["edits"]:
        low, high = Image.open(folder / one["file"]).convert("L").getextrema()
        assert high - low > 50
    log = (tmp_path / "log.txt").read_text()
    assert log.count("succeeded in") == 2
