"""Windows that reach the end of a run, and schedulers that take two evaluations a step or draw noise by themselves."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import tiny
import tiny_sd3
from ctxrep_adapters.sd3_instruct import StableDiffusion3InstructPix2PixPipeline as InstructPipeline
from diffusers import FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler, FlowMatchLCMScheduler
from PIL import Image

from ctxrep_edit import Repulsion, diverse_edit

edit = functools.partial(
    diverse_edit, instruction=tiny.WORDS, n=3, seed=5, steps=6, preserve="off", progress=False, bank="memory"
)


@pytest.mark.parametrize("batch_size", [3, 2, 1])
@pytest.mark.parametrize("hold", [0.0, 0.2])
def test_all_repel_to_the_end_of_a_window_that_reaches_it(
    pipeline: Any, picture: Image.Image, hold: float, batch_size: int
) -> None:
    wide = Repulsion(scope="generated", strength=2.0, window=1.0, hold=hold, anchor=True)
    edits = edit(picture, pipeline=pipeline, repulsion=wide, oversample=2, batch_size=batch_size, bank="memory")
    assert [edit.trace is not None for edit in edits] == [True] * 3
    steps = [sorted({place[0] for place in edit.trace.memory}) for edit in edits if edit.trace]
    assert {steps[0][-1], steps[1][-1], steps[2][-1]} == {5}
    assert all(some[0] == 0 for some in steps)
    ends = edits.between(1, 2, 2, progress=False)
    for end, edge in zip(ends, edits[1:3], strict=True):
        assert end.image.tobytes() == edge.image.tobytes()


def test_the_evaluations_of_a_step_are_kept_apart(picture: Image.Image) -> None:
    pipeline = tiny_sd3.pipeline(InstructPipeline)
    pipeline.scheduler = FlowMatchHeunDiscreteScheduler()
    options = {"width": 64, "height": 64, "max_sequence_length": tiny.LENGTH, "pipeline": pipeline}
    settings = Repulsion(scope="context", window=0.6, oversample=1, hold=0.0, churn=0.0, anchor=True)
    edits = edit(picture, repulsion=settings, **options)
    assert edits[1].trace is not None
    assert {place[0] for place in edits[1].trace.memory} >= {0, 1, 2}
    assert len({place[:2] for place in edits[1].trace.memory}) == 2 * len({p[0] for p in edits[1].trace.memory})
    ends = edits.between(1, 2, 2, progress=False)
    assert [end.image.tobytes() for end in ends] == [edit.image.tobytes() for edit in edits[1:]]
    assert len(edits.more(1, progress=False)) == 1
    assert len(edit(picture, repulsion=settings, batch_size=1, **options)) == 3


@pytest.mark.parametrize(
    "scheduler", [FlowMatchEulerDiscreteScheduler(stochastic_sampling=True), FlowMatchLCMScheduler()]
)
def test_what_a_scheduler_draws_comes_from_each_candidates_seed(
    pipeline: Any, picture: Image.Image, scheduler: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "scheduler", scheduler)
    options = {"pipeline": pipeline, "repulsion": Repulsion(scope="generated", window=0.4, oversample=1, churn=0.0)}
    edits = edit(picture, **options)
    for others in (edit(picture, **options), edits.between(1, 2, 2, progress=False)):
        for made, before in zip([*others][-2:], [*edits][1:], strict=True):
            assert made.image.tobytes() == before.image.tobytes()
