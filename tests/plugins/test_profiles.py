"""What a model's folder states of itself."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tiny import edit

from ctxrep_edit import ModelError


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "ctxrep.json cannot be used: .* Mend or delete the file"),
        ("[]", "cannot be used"),
        ('{"size": []}', "cannot be used"),
        ('{"sizes": [3]}', "cannot be used"),
        ('{"repulsion": {"stength": 1}}', r"unknown repulsion settings \['stength'\]"),
    ],
)
def test_profiles_that_cannot_be_used(
    pipeline: Any, picture: Image.Image, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "ctxrep.json").write_text(text)
    pipeline.register_to_config(_name_or_path=str(tmp_path))
    with pytest.raises(ModelError, match=message):
        edit(picture, pipeline=pipeline)


def test_a_profile_states_the_defaults(pipeline: Any, folder: Path, picture: Image.Image, tmp_path: Path) -> None:
    stated = json.loads((folder / "ctxrep.json").read_text())
    stated["repulsion"] = {"strength": 0.3, "scope": "context", "steps": 1}
    stated["call"]["num_inference_steps"] = 2
    (tmp_path / "ctxrep.json").write_text(json.dumps(stated))
    pipeline.register_to_config(_name_or_path=str(tmp_path))
    seen: list[int] = []
    on_step: Callable[[int, int], None] = lambda step, steps: seen.append(steps)  # noqa: E731
    edits = edit(picture, pipeline=pipeline, on_step=on_step)
    assert seen == [2, 2]
    assert edits[1].strength == 0.3
    assert edits.recipe["repulsion"]["scope"] == "context"
    edit(picture, pipeline=pipeline, on_step=on_step, steps=3, max_sequence_length=10)  # the caller's word counts more
    assert seen == [2, 2, 3, 3, 3]
