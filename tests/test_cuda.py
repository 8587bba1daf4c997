"""On a GPU: the edits of a CPU, in the memory that there is. Skipped where there is none."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from skimage import data

from ctxrep_edit import EditSet, diverse_edit, load_pipeline, stream_edits
from ctxrep_edit.testing.traces import left_behind, traces

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
MODEL = "kontext-nano"


@pytest.fixture(scope="module")
def here() -> Any:
    return load_pipeline(MODEL, device="cpu", progress=False)


@pytest.fixture(scope="module")
def there() -> Iterator[Any]:
    pipeline = load_pipeline(MODEL, device="cuda", progress=False)
    asked(pipeline, n=1, strength=0)  # what the first call alone leaves
    before = traces(pipeline)
    yield pipeline
    assert not left_behind(before, traces(pipeline))


def asked(pipeline: Any, n: int = 6, **options: Any) -> EditSet:
    shared = {"seed": 0, "preserve": "off", "progress": False, **options}
    return diverse_edit(data.astronaut(), "add a sticker", n, pipeline=pipeline, **shared)


def apart(one: EditSet, other: EditSet) -> list[float]:
    """How far the pictures of two sets differ, in the mean, of 255."""
    pairs = zip(one.images, other.images, strict=True)
    return [float(np.abs(np.asarray(a, float) - np.asarray(b, float)).mean()) for a, b in pairs]


@pytest.mark.parametrize(
    "options",
    [{}, {"batch_size": 2}, {"batch_size": 1}, {"oversample": 1}, {"oversample": 1, "batch_size": 2}],
    ids=str,
)
def test_edits_are_those_of_a_cpu(here: Any, there: Any, options: dict[str, Any]) -> None:
    mine, theirs = asked(there, bank="memory", **options), asked(here, bank="memory", **options)
    assert [edit.seed for edit in mine] == [edit.seed for edit in theirs]
    assert max(apart(mine, theirs)) < 1
    for edit, other in zip(mine, theirs, strict=True):
        assert edit.trace.memory.keys() == other.trace.memory.keys()
        for place, tokens in edit.trace.memory.items():
            assert tokens.is_pinned()
            expected = other.trace.memory[place]
            assert torch.linalg.norm(tokens - expected) < 1e-2 * torch.linalg.norm(expected)


def test_more_of_a_saved_set_are_those_of_a_cpu(here: Any, there: Any, tmp_path: Path) -> None:
    edits = asked(there, n=3, batch_size=2)
    edits.save(tmp_path / "set", bank=True)
    loaded = EditSet.load(tmp_path / "set")
    more = [loaded.more(2, pipeline=pipeline, progress=False) for pipeline in (there, here)]
    assert max(apart(*more)) < 1
    assert max(apart(more[0], edits.more(2, pipeline=there, progress=False))) < 1


def test_a_batch_that_runs_out_of_memory_is_halved(there: Any) -> None:
    reserved = []
    for count in (2, 6):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        asked(there, n=count, batch_size=count, oversample=1)
        reserved.append(torch.cuda.max_memory_reserved())
    small, large = reserved
    limit = (small + large) / 2
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(limit / torch.cuda.get_device_properties(0).total_memory)
    try:
        edits = asked(there, oversample=1)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    batches = edits.recipe["batches"]
    assert len(batches) > 1
    assert [i for batch in batches for i in batch] == [*range(6)]
    torch.cuda.empty_cache()
    largest = max(len(batch) for batch in batches)
    assert apart(edits, asked(there, oversample=1, batch_size=largest)) == [0.0] * 6


def test_the_device_keeps_nothing(there: Any) -> None:
    def allocated() -> int:
        gc.collect()
        return torch.cuda.memory_allocated()

    asked(there)
    before = allocated()
    edits = asked(there, n=4, batch_size=1, bank="memory")
    assert allocated() == before  # with the set still there: its bank lies on the host
    stream = stream_edits(
        data.astronaut(), "add a sticker", 4, pipeline=there, batch_size=1, preserve="off", progress=False
    )
    next(iter(stream))
    del stream, edits
    assert allocated() == before


def spread(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    try:
        pipeline = load_pipeline(MODEL, device="cuda", progress=False)
        edits = asked(pipeline, n=5, group=dist.group.WORLD, oversample=1)
        torch.save([np.asarray(image) for image in edits.images], f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


def test_two_processes_share_the_device(there: Any, tmp_path: Path) -> None:
    mp.spawn(spread, (str(tmp_path),), nprocs=2)
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    alone = asked(there, n=5, oversample=1).images
    assert max(np.abs(a.astype(float) - np.asarray(b, float)).mean() for a, b in zip(one, alone, strict=True)) < 1
