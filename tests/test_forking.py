"""What docs/backends.md says is safe in a server that forks its workers is."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

WORKER = """
import os, signal, sys
import torch
from PIL import Image
from ctxrep_edit import diverse_edit, load_pipeline

torch.set_num_threads(2)
photo = Image.radial_gradient("L").convert("RGB")
pipeline = load_pipeline("kontext-nano", device="cpu") if "load" in sys.argv else None
worker = os.fork()
if worker == 0:
    signal.alarm(60)  # a hang
    if "one thread" in sys.argv:
        torch.set_num_threads(1)
    diverse_edit(photo, "change the light", 2, pipeline=pipeline, seed=0, steps=2, progress=False)
    os._exit(0)
sys.exit(os.waitpid(worker, 0)[1] != 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("told", [["import"], ["load", "one thread"]])
def test_a_forked_worker_edits(told: list[str]) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", WORKER, *told], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
