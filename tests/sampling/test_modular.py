"""Modular pipelines, loaded from a folder that diffusers has saved."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny_flux3
import tiny_qwen21
import torch

from ctxrep_edit import ModelError, diverse_edit, load_pipeline
from ctxrep_edit.sampling.pipelines import class_named
from ctxrep_edit.testing import tiny_picture

CALL = {"steps": 2, "seed": 0, "preserve": "off", "progress": False, "width": 96, "height": 64, "strength": 1.0}
MADE = {
    tiny_flux3.CLASSES[0]: (tiny_flux3.pipeline, tiny_flux3.OPTIONS),
    tiny_qwen21.CLASSES[1]: (tiny_qwen21.pipeline, tiny_qwen21.OPTIONS),
}


@pytest.mark.parametrize("blocks", MADE, ids=lambda cls: cls.__name__)
def test_a_saved_one_is_loaded(blocks: type, tmp_path: Path) -> None:
    make, options = MADE[blocks]
    saved: Any = make(blocks)
    saved.save_pretrained(str(tmp_path / "saved"), overwrite_modular_index=True)
    shutil.move(tmp_path / "saved", tmp_path / "moved")  # its index names the first place
    folder = tmp_path / "moved"
    loaded = load_pipeline(folder, device="cpu", progress=False)
    assert type(loaded) is type(saved)
    assert class_named(folder) == type(saved).__name__
    assert loaded.config["_name_or_path"] == str(folder)
    parts = loaded.transformer.state_dict()
    assert all(torch.equal(parts[name], value) for name, value in saved.transformer.state_dict().items())
    loaded._blocks.sub_blocks.pop("prompt_upsampler", None)  # diffusers saves the blocks' class alone
    edits = diverse_edit(tiny_picture(96, 64), "add a hat", 2, pipeline=loaded, **CALL, **options)
    assert edits.recipe["model"] == str(folder)
    assert edits.images[0].tobytes() != edits.images[1].tobytes()


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    tiny_qwen21.pipeline(tiny_qwen21.CLASSES[1]).save_pretrained(str(tmp_path), overwrite_modular_index=True)
    index = tmp_path / "modular_model_index.json"
    stated = json.loads(index.read_text())
    stated["vae"][2]["subfolder"] = "lost"
    index.write_text(json.dumps(stated))
    with pytest.raises(ModelError, match=r"cannot be loaded: its vae cannot be loaded, from where modular_model_index"):
        load_pipeline(tmp_path, device="cpu", progress=False)


def test_a_folder_without_an_index(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no model_index\.json or modular_model_index\.json"):
        load_pipeline(tmp_path)
