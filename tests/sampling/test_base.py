"""A model's folder that shares the parts of another."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny import SIDE, edit, pixels

from ctxrep_edit import ModelError, load_pipeline


@pytest.fixture
def partial(folder: Path, tmp_path: Path) -> Path:
    """A folder that holds its own transformer, and shares what else is in `folder`."""
    shutil.copytree(folder, tmp_path / "whole")
    own = tmp_path / "own"
    (own / "transformer").mkdir(parents=True)
    shutil.copy(folder / "model_index.json", own)
    transformer = load_pipeline(folder, device="cpu").transformer
    for parameter in transformer.parameters():
        parameter.data.mul_(1.5)
    transformer.save_pretrained(own / "transformer")
    stated = {"base": "../whole", "sizes": [[SIDE, SIDE]], "call": {"num_inference_steps": 2}}
    (own / "ctxrep.json").write_text(json.dumps(stated))
    return own


def test_parts_that_a_folder_has_not_come_from_its_base(partial: Path, folder: Path, picture: Image.Image) -> None:
    loaded, whole = load_pipeline(partial, device="cpu"), load_pipeline(folder, device="cpu")
    for name, ratio in (("transformer", 1.5), ("vae", 1.0), ("text_encoder_2", 1.0)):
        pairs = zip(getattr(loaded, name).parameters(), getattr(whole, name).parameters(), strict=True)
        assert all((ours == ratio * theirs).all() for ours, theirs in pairs), name
    assert loaded.config["_name_or_path"] == str(partial)  # not the base: what is stated is that of the folder
    made = edit(picture, model=partial, n=1)
    assert made.recipe["model"] == str(partial)
    assert made.recipe["steps"] == 2
    assert not np.array_equal(pixels(made), pixels(edit(picture, model=folder, n=1)))


def test_a_base_that_is_not_there_is_named(partial: Path, picture: Any) -> None:
    shutil.rmtree(partial.parent / "whole")
    with pytest.raises(ModelError, match=r"own.* shares parts of .*whole, which is no pipeline folder: put it there"):
        load_pipeline(partial)
    (partial / "ctxrep.json").write_text('{"base": 3}')
    with pytest.raises(ModelError, match="base"):
        load_pipeline(partial)
