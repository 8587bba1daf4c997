"""Models by name and by folder, and those that cannot be used."""

import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging as of_diffusers
from PIL import Image
from tiny import edit, pixels

from ctxrep_edit import EmbeddedModel, ModelError, OutsideItsWorld, load_pipeline
from ctxrep_edit.plugins import catalog
from ctxrep_edit.sampling import pipelines


def test_a_model_by_name_and_by_folder(
    folder: Path, pipeline: Any, picture: Image.Image, registered: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = EmbeddedModel("small", folder, "", lambda words: "light" in words, "It knows light.")
    registered(ctxrep_models=lambda: [small])
    wanted = pixels(edit(picture, pipeline=pipeline))
    assert np.array_equal(pixels(edit(picture, model=folder)), wanted)
    named = edit(picture, model="small", device="cpu", dtype="float32")
    assert np.array_equal(pixels(named), wanted)
    assert named.recipe["model"] == "small"
    monkeypatch.setattr(pipelines, "DEFAULT_MODEL", "small")
    assert edit(picture).recipe["model"] == "small"  # the name, which means something on other machines too
    assert load_pipeline("small", device="cpu") is load_pipeline("small", device="cpu")
    for options in ({"model": "small"}, {"pipeline": pipeline}):
        with pytest.warns(OutsideItsWorld, match="small was not taught 'add a moon'.* It knows light") as caught:
            edit(picture, instruction="add a moon", n=1, **options)
        assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("kontext-nanno", r"no model 'kontext-nanno': name an embedded model \(.*kontext-nano.*\), an existing local"),
        ("/no/such/folder", "no model '/no/such/folder'"),
        ("a/b/c", "no model 'a/b/c'"),
    ],
)
def test_unknown_models(picture: Image.Image, name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        edit(picture, model=name)


def test_without_embedded_models_the_errors_name_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(catalog, "MODELS", types.SimpleNamespace(all=dict, claims=dict))  # CTXREP_EDIT_PLUGINS=-nano
    with pytest.raises(ModelError) as caught:
        load_pipeline()
    assert str(caught.value) == (
        "There is no model 'kontext-nano': name an existing local folder, or a hub id such as "
        "black-forest-labs/FLUX.1-Kontext-dev. No plugin in use brings embedded models: see 'ctxrep-edit plugins'."
    )
    (tmp_path / "model_index.json").write_text("{")
    with pytest.raises(ModelError, match=r"Check the name, the network and your access to the hub\.$"):
        load_pipeline(tmp_path)


def test_a_folder_that_is_no_model(picture: Image.Image, tmp_path: Path) -> None:
    with pytest.raises(
        ModelError,
        match=r"has no model_index\.json or modular_.*, so it is not a diffusers pipeline",
    ):
        edit(picture, model=tmp_path)
    (tmp_path / "model_index.json").write_text("{")
    with pytest.raises(ModelError, match=r"cannot be loaded: .* or use an embedded model"):
        edit(picture, model=tmp_path)


def test_a_hub_that_cannot_be_reached(picture: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("We couldn't connect.\nAnd more.")

    monkeypatch.setattr(DiffusionPipeline, "load_config", offline)
    with pytest.raises(
        ModelError, match=r"'some/model' cannot be loaded: We couldn't connect\. Check the name, the netw"
    ):
        edit(picture, model="some/model")


@pytest.mark.parametrize("dtype", ["int8", "float99", torch.int64, 3])
def test_dtypes_that_no_model_runs_in(picture: Image.Image, folder: Path, dtype: Any) -> None:
    with pytest.raises(ModelError, match=r"dtype .* use float32, bfloat16 or float16"):
        edit(picture, model=folder, dtype=dtype)


def test_a_device_that_is_none(picture: Image.Image, folder: Path) -> None:
    with pytest.raises(
        ModelError, match=r"cannot be put on the device 'warp': Expected .*\. Name another device, such"
    ):
        edit(picture, model=folder, device="warp")


def test_loads_side_by_side_leave_the_logs_as_they_were() -> None:
    before = of_diffusers.get_verbosity(), of_diffusers.is_progress_bar_enabled()
    one, other = pipelines._quiet(), pipelines._quiet()
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    assert of_diffusers.get_verbosity() == of_diffusers.ERROR
    other.__exit__(None, None, None)
    assert (of_diffusers.get_verbosity(), of_diffusers.is_progress_bar_enabled()) == before
