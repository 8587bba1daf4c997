"""Context parallelism for real: two processes over gloo, each with a part of the tokens (Ulysses)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import tiny
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from diffusers import ContextParallelConfig
from diffusers.models.attention_dispatch import attention_backend
from PIL import Image

from ctxrep_edit import RepulsionError, diverse_edit, repelled
from ctxrep_edit.testing import tiny_pipeline

RANKS = 2


def parallel(rank: int, folder: str) -> None:
    """What one rank sees; it writes what came of it into a file of its own."""
    os.environ.update(MASTER_ADDR="127.0.0.1", GLOO_SOCKET_IFNAME="lo")
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=RANKS)
    try:
        torch.set_num_threads(1)
        torch.accelerator.device_count = lambda: RANKS  # diffusers numbers the ranks' devices by it, and a CPU has none
        picture, pipeline = Image.new("RGB", (32, 32), "teal"), tiny_pipeline()
        said = []
        with attention_backend("native"):
            with pytest.raises(RepulsionError) as late, repelled(pipeline, particles=2):  # noqa: PT012
                pipeline.transformer.enable_parallelism(config=ContextParallelConfig(ulysses_degree=RANKS))
                tiny.run(pipeline, picture, 2)
            said.append(str(late.value))
            with pytest.raises(RepulsionError) as early:
                diverse_edit(picture, "make it autumn", 2, pipeline=pipeline, seed=0, preserve="off", progress=False)
            said.append(str(early.value))
            plain = tiny.run(pipeline, picture, 2)
        torch.save({"said": said, "plain": plain}, f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_available(), reason="this torch has no torch.distributed")
def test_two_ranks_are_refused_and_edit_plainly(tmp_path: Path) -> None:
    mp.spawn(parallel, (str(tmp_path),), nprocs=RANKS)
    picture, pipeline = Image.new("RGB", (32, 32), "teal"), tiny_pipeline()
    alone = tiny.run(pipeline, picture, 2)
    for rank in range(RANKS):
        seen = torch.load(tmp_path / f"{rank}.pt")
        late, early = seen["said"]
        assert "under context parallelism each device has a part of them" in late
        assert "cp_" in early
        assert "context parallelism" in early
        torch.testing.assert_close(seen["plain"], alone, atol=1e-4, rtol=1e-4)  # nothing of the refused runs is left
