"""A caller's thread may have another default device; what we make ourselves is on the CPU all the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from PIL import Image

from ctxrep_edit import EditSet, Repulsion, adapter_for, assess, diverse_edit, judge, lpips_distance, repelled
from ctxrep_edit.faithfulness import lpips
from ctxrep_edit.faithfulness.judgement import checks_named
from ctxrep_edit.testing import case, tiny_picture

OPTIONS = {"width": 32, "height": 32, "steps": 2, "max_sequence_length": 16, "progress": False}
PHOTO = tiny_picture(64, 48)


@pytest.fixture
def elsewhere() -> Iterator[None]:
    """On "meta" whatever names no device has no numbers, which any use of them shows."""
    with torch.device("meta"):
        yield


def edited(pipeline: Any, **options: Any) -> EditSet:
    return diverse_edit(PHOTO, "change the light", 2, pipeline=pipeline, seed=0, **OPTIONS, **options)


@pytest.mark.parametrize("strategy", ["contextual", "cads", "prompt-noise", "particle-guidance"])
def test_diverse_edit(pipeline: Any, strategy: str) -> None:
    plain = edited(pipeline, strategy=strategy)
    with torch.device("meta"):
        again = edited(pipeline, strategy=strategy)
    assert again.images == plain.images
    assert [edit.verdicts for edit in again] == [edit.verdicts for edit in plain]


@pytest.mark.usefixtures("elsewhere")
def test_a_model_is_loaded_and_the_source_restored() -> None:
    edits = diverse_edit(PHOTO, "change the light", 2, seed=0, restore=True, progress=False)
    assert edits.vendi > 0
    assert "not judged" not in " ".join(verdict.reason for edit in edits for verdict in edit.verdicts.values())


def test_assess_and_judge_and_the_networks_that_they_build() -> None:
    pictures: list[Image.Image] = [tiny_picture(64, 48, 1), PHOTO]
    given, checks = case(), checks_named("auto")
    plain = assess(PHOTO, pictures), judge(given, checks), lpips_distance(*pictures), case().edits
    lpips._built.cache_clear()
    with torch.device("meta"):
        again = assess(PHOTO, pictures), judge(case(), checks), lpips_distance(*pictures), case().edits
    assert [edit.verdicts for edit in again[0]] == [edit.verdicts for edit in plain[0]]
    assert again[1:3] == plain[1:3]
    assert torch.equal(again[3], plain[3])


def test_repelled_around_a_call_of_ones_own(pipeline: Any) -> None:
    """The pipeline itself does not run on "meta", its transformer does on the CPU."""
    words = adapter_for(pipeline).instruction(pipeline, {"prompt": "change the light", "max_sequence_length": 16})
    seen: list[Any] = []
    transformer = pipeline.transformer
    handle = transformer.register_forward_pre_hook(lambda _, args, call: seen.append(call), with_kwargs=True)
    edited(pipeline, strength=0, preserve="off")
    handle.remove()
    with (
        torch.device("meta"),
        torch.no_grad(),
        repelled(pipeline, Repulsion(scope="generated", strength=1.0), particles=2, instruction=words) as run,
    ):
        transformer(**seen[0])
    assert run.vendi
