"""Candidates that are spread over two processes, for real, over gloo: the pictures of one process, and no hang."""

from __future__ import annotations

import datetime
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from conftest import both
from PIL import Image
from tiny import SOME

from ctxrep_edit import EditSet, InputError, PluginError, Repulsion, RepulsionError, Run, diverse_edit, repelled
from ctxrep_edit.repulsion.ranks import Ranks
from ctxrep_edit.testing import tiny_pipeline

RANKS = 2
SCOPES = {
    "generated": Repulsion(scope="generated", steps=2, anchor=True, oversample=1),
    "pooled": Repulsion(scope="pooled", steps=2, oversample=1),
    "held": Repulsion(scope="generated", window=0.9, hold=0.5, anchor=True, oversample=1),
}
pytestmark = pytest.mark.skipif(not dist.is_available(), reason="this torch has no torch.distributed")


def edit(n: int, repulsion: Repulsion | None, group: Any = None, **options: Any) -> EditSet:
    shared = {"pipeline": tiny_pipeline(), "steps": 4, "preserve": "off", "progress": False, "group": group}
    shared |= {"width": 32, "height": 32}
    return diverse_edit(picture(), tiny.WORDS, n, repulsion=repulsion, **{**shared, **options})


def picture() -> Image.Image:
    return Image.linear_gradient("L").resize((32, 32)).convert("RGB")


def meet(rank: int, folder: str, seconds: float = 60) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", GLOO_SOCKET_IFNAME="lo")
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=RANKS,
        timeout=datetime.timedelta(seconds=seconds),
    )  # fmt: skip
    torch.set_num_threads(1)


def work(rank: int, folder: str) -> None:
    """What one rank does; what it saw goes into a file of its own."""
    meet(rank, folder)
    try:
        world = dist.group.WORLD
        seen = {
            f"{name} {n}": [np.asarray(image) for image in edit(n, given, world, seed=0).images]
            for name, given in SCOPES.items()
            for n in (2, 5)
        }
        edits = edit(5, SCOPES["generated"], world, seed=0)
        plain = edit(3, None, world, seed=0, strength=0)
        drawn = edit(2, None, world)
        said = {}
        for name, wrong in {
            "n": {"n": 1}, "pool": {"oversample": 2}, "batch": {"batch_size": 1}, "cads": {"strategy": "cads"},
            "retry": {"on_unfaithful": "retry", "preserve": ["change"]}, "other": {"n": 2 + rank, "seed": 0},
        }.items():  # fmt: skip
            with pytest.raises(InputError) as raised:
                edit(**{"n": 2, "repulsion": None, "group": world, **wrong})
            said[name] = str(raised.value)
        with pytest.raises(PluginError) as forgot:
            edit(2, None, world, strategy=Forgetful(), seed=0)
        said["forgot"] = str(forgot.value)
        with repelled(tiny_pipeline(), SOME, particles=2, ranks=Ranks.of(world, 2)) as run:
            own = tiny.run(run.clock.pipeline, picture(), 2, first=2 * rank)
        torch.save(
            {
                "seen": seen, "seeds": [one.seed for one in edits], "strengths": [one.strength for one in edits],
                "vendi": edits.contextual_vendi, "plain": [np.asarray(image) for image in plain.images],
                "drawn": [one.seed for one in drawn], "said": said, "own": own,
            },
            f"{folder}/{rank}.pt",
        )  # fmt: skip
    finally:
        dist.destroy_process_group()


def Forgetful() -> Any:  # noqa: N802 (a class is made in each process)
    from ctxrep_plugins.standard import Contextual

    class Forgetting(Contextual):
        def sample(self, run: Run) -> torch.Tensor:
            run.ranks = None
            return super().sample(run)

    return Forgetting()


def test_two_ranks_make_the_pictures_of_one(tmp_path: Path) -> None:
    mp.spawn(work, (str(tmp_path),), nprocs=RANKS)
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(RANKS))
    for name, images in one["seen"].items():
        kind, n = name.split()
        alone = [np.asarray(image) for image in edit(int(n), SCOPES[kind], seed=0).images]
        plain = [np.asarray(image) for image in edit(int(n), None, strength=0, seed=0).images]
        for mine, theirs, whole in zip(images, two["seen"][name], alone, strict=True):
            assert np.array_equal(mine, theirs)  # each rank has the whole set
            assert abs(mine.astype(int) - whole).max() <= 1
        assert not np.array_equal(np.stack(images), np.stack(plain))
    assert one["seeds"] == two["seeds"] == [0, 1, 2, 3, 4]
    assert one["strengths"] == two["strengths"] == [0.0, *[one["strengths"][1]] * 4]
    assert one["vendi"] == pytest.approx(two["vendi"])
    assert len(one["plain"]) == 3
    assert one["drawn"] == two["drawn"]
    with repelled(tiny_pipeline(), SOME, particles=4) as run:
        alone = tiny.run(run.clock.pipeline, picture(), 4)
    torch.testing.assert_close(torch.cat([one["own"], two["own"]]), alone, atol=1e-4, rtol=1e-4)
    for name, words in {
        "n": "n is 1, but the group has 2 ranks", "pool": "leave oversample out", "batch": "leave batch_size out",
        "cads": "leave strategy 'cads' out", "retry": "leave on_unfaithful='retry' out",
        "other": "The ranks were asked for different things", "forgot": "does not hand run.ranks to `repelled`",
    }.items():  # fmt: skip
        assert words in one["said"][name]
        assert words in two["said"][name]


def dying(rank: int, folder: str) -> None:
    meet(rank, folder, seconds=8)
    pipeline = tiny_pipeline()
    tiny.run(pipeline, picture(), 1)
    before = tiny.traces(pipeline)

    def end(step: int, steps: int) -> None:
        if rank == 1:
            os._exit(0)

    began = time.monotonic()
    with pytest.raises(RepulsionError) as raised:
        edit(4, SCOPES["generated"], dist.group.WORLD, seed=0, pipeline=pipeline, on_step=end)
    assert tiny.traces(pipeline) == before
    Path(folder, "said").write_text(f"{time.monotonic() - began} {raised.value}")


def test_a_rank_that_ends_ends_the_others(tmp_path: Path) -> None:
    mp.spawn(dying, (str(tmp_path),), nprocs=RANKS)
    seconds, _, said = (tmp_path / "said").read_text().partition(" ")
    assert float(seconds) < 20
    assert said.startswith("Another rank has ended, or did not answer within the time-out of the group (")
    assert said.endswith("mend what ended it, and start all ranks anew.")


@both
def test_what_is_no_group(pipeline: Any, picture: Image.Image) -> None:
    mask = Image.new("L", picture.size, 255)
    with pytest.raises(InputError, match=r"but must be a group of torch.distributed with this process in it: call"):
        tiny.edit(picture, pipeline=pipeline, mask=mask, group=SimpleNamespace())
    with pytest.raises(InputError, match="spread over ranks pass at once: leave bank and batch_size out"):
        repelled(pipeline, SOME, particles=2, ranks=Ranks(None, 0, [2]), batch_size=1).__enter__()
