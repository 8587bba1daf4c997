"""By what later edits know whether earlier ones were made as they are."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch
from accelerate import cpu_offload
from PIL import Image

from ctxrep_edit import InputError


@pytest.mark.parametrize("how", ["compiled", "offloaded"])
def test_weights_are_the_same_however_they_are_held(
    pipeline: Any, picture: Image.Image, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    edits = tiny.edit(picture, pipeline=pipeline, bank="memory")
    if how == "compiled":
        compiled = torch.compile(pipeline.transformer, backend="eager")
        monkeypatch.setattr(pipeline, "transformer", compiled)
    else:
        cpu_offload(pipeline.transformer, torch.device("cpu"), offload_buffers=True)
    assert len(edits.more(1, progress=False)) == 1


def test_other_weights_are_told_from_them(pipeline: Any, picture: Image.Image) -> None:
    edits = tiny.edit(picture, pipeline=pipeline, bank="memory")
    with torch.no_grad():
        pipeline.transformer.proj_out.weight += 1
    with pytest.raises(InputError, match="was made with another weights"):
        edits.more(1, progress=False)


def test_a_recipe_says_what_a_set_is_unlike(pipeline: Any, picture: Image.Image) -> None:
    first = tiny.edit(picture, pipeline=pipeline, bank="memory")
    assert "unlike" not in first.recipe
    more = first.more(1, progress=False)
    assert more.recipe["unlike"] == [edit.seed for edit in first]
    assert more.recipe["repulsion"]["anchor"] is False
    unlike = tiny.edit(picture, pipeline=pipeline, unlike=[picture.rotate(180)])
    assert [*unlike.recipe["unlike"][0]] == ["size", "sha256"]
