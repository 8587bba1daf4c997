"""What a recipe says of where its pictures come from."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny import STEPS, edit

from ctxrep_edit import read_image


def test_the_recipe_states_steps_versions_and_pictures(pipeline: Any, picture: Image.Image) -> None:
    recipe = edit(picture, pipeline=pipeline).recipe
    assert recipe["steps"] == STEPS  # the model's own
    assert recipe["timesteps"] == STEPS
    for package in ("torch", "diffusers", "transformers"):
        assert recipe["versions"][package] == version(package)
    pixels = np.asarray(read_image(picture)).tobytes()
    assert recipe["source"] == {"size": list(picture.size), "sha256": hashlib.sha256(pixels).hexdigest()}
    assert recipe["mask"] is None
    mask = Image.new("L", picture.size, 255)
    found = edit(picture, pipeline=pipeline, steps=2, mask=mask).recipe
    assert (found["steps"], found["timesteps"]) == (2, 2)
    assert found["mask"] == {"size": list(picture.size), "sha256": hashlib.sha256(mask.tobytes()).hexdigest()}


def test_steps_that_nobody_states_are_the_pipelines_own(pipeline: Any, picture: Image.Image) -> None:
    pipeline.register_to_config(_name_or_path=None)  # no profile
    small = {"width": 32, "height": 32, "max_sequence_length": 16, "preserve": "off"}
    recipe = edit(picture, pipeline=pipeline, n=1, strength=0, **small).recipe
    assert recipe["steps"] == recipe["timesteps"] == 28


@pytest.mark.parametrize("change", [(0, 0), (7, 5)])
def test_another_picture_has_another_hash(pipeline: Any, picture: Image.Image, change: tuple[int, int]) -> None:
    other = picture.copy()
    other.putpixel(change, (1, 2, 3))
    one, two = (edit(image, pipeline=pipeline, n=1).recipe["source"] for image in (picture, other))
    assert one["sha256"] != two["sha256"]
