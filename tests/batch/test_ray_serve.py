"""The Ray Serve application answers real requests."""

from __future__ import annotations

import base64
import io
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image

SCRIPT = Path(__file__).parents[2] / "examples" / "ray_serve_app.py"


@pytest.fixture
def url(folder: Path, tmp_path: Path) -> Iterator[str]:
    pytest.importorskip("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    command = [sys.executable, str(SCRIPT), "--model", str(folder), "--port", str(port)]
    with open(tmp_path / "log.txt", "wb") as log:
        process = subprocess.Popen(command, env={**os.environ, **quiet}, stderr=log, stdout=log)
    try:
        yield f"http://127.0.0.1:{port}/edits"
    finally:
        process.terminate()
        process.wait(60)


def post(url: str, seconds: float = 240, **asked: Any) -> httpx2.Response:
    """Waits until somebody listens."""
    end = time.monotonic() + seconds
    while True:
        try:
            answer = httpx2.post(url, json=asked, timeout=60)
            if answer.status_code not in (404, 503):
                return answer
        except httpx2.TransportError:
            pass
        assert time.monotonic() < end, "Nobody listens."
        time.sleep(0.2)


def test_it_answers(url: str, photo: Path) -> None:
    asked = {"image": base64.b64encode(photo.read_bytes()).decode(), "instruction": "add a sticker", "preserve": "off"}
    first, second = (post(url, **asked, n=2, seed=5) for _ in range(2))
    assert first.status_code == 200, first.text
    edits = first.json()["edits"]
    assert [edit["seed"] for edit in edits] == [5, 6]
    pictures = [Image.open(io.BytesIO(base64.b64decode(edit["png"]))) for edit in edits]
    assert pictures[0].tobytes() != pictures[1].tobytes()
    assert second.json()["edits"] == edits
    for wrong in ({"mask": "/etc/passwd"}, {"n": 99}, {"image": "/etc/passwd"}, {"instruction": ""}, {"strength": -1}):
        answer = post(url, **{**asked, **wrong})
        assert (answer.status_code, next(iter(wrong)) in answer.text) == (400, True), answer.text
