"""The check of a subject's identity, with models of random weights: what it computes, and what it asks for."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ctxrep_plugins.checks.identity import Identity
from transformers import (
    BitImageProcessor,
    Dinov2Config,
    Dinov2Model,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
)

from ctxrep_edit import Case, ModelError, assess

LAYERS = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture(scope="module", params=["dino", "siglip"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    if request.param == "dino":
        Dinov2Model(Dinov2Config(**LAYERS, image_size=56, patch_size=7)).save_pretrained(folder)
        BitImageProcessor(size={"shortest_edge": 64}, crop_size={"height": 56, "width": 56}).save_pretrained(folder)
    else:
        vision = {**LAYERS, "intermediate_size": 16, "image_size": 56, "patch_size": 7}
        text = {**LAYERS, "intermediate_size": 16, "vocab_size": 8}
        SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
        SiglipImageProcessor(size={"height": 56, "width": 56}).save_pretrained(folder)
    return str(folder)


def picture(seed: int) -> torch.Tensor:
    """Of blocks, as large as patches."""
    blocks = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return blocks.repeat_interleave(7, 2).repeat_interleave(7, 3)


def case(source: torch.Tensor, *edits: torch.Tensor, mask: torch.Tensor | None) -> Case:
    return Case(source, torch.cat(edits), mask, "put it on a beach", False, lambda: source)


def test_the_subject_is_looked_for_and_nothing_else(model: str) -> None:
    source, other = picture(1), picture(2)
    background = torch.ones(56, 56, dtype=torch.bool)
    background[14:42, 14:42] = False
    kept, lost = source.clone(), source.clone()
    kept[:, :, background] = other[:, :, background]
    lost[:, :, ~background] = other[:, :, ~background]
    same, beach, gone = Identity(model).verdicts(case(source, source, kept, lost, mask=background))
    assert same.value == pytest.approx(1, abs=1e-5)
    assert beach.value is not None
    assert gone.value is not None
    assert gone.value < beach.value <= 1
    strict = Identity(model, least=0.5 * (beach.value + gone.value))
    assert [said.word for said in strict.verdicts(case(source, source, kept, lost, mask=background))] == [
        "kept", "kept", "damaged",
    ]  # fmt: skip
    named = np.where(background.numpy(), 0, 255).astype(np.uint8)
    again = Identity(model, subject=named).verdicts(case(source, lost, mask=None))
    assert again[0].value == pytest.approx(gone.value, abs=1e-5)


def test_nobody_says_what_the_subject_is(model: str) -> None:
    (said,) = Identity(model).verdicts(case(picture(1), picture(2), mask=None))
    assert (said.kept, said.value, said.word) == (None, None, "not asked")
    assert said.reason == "not asked: no mask says what the subject is"
    dot = np.zeros((56, 56), np.uint8)
    dot[0, 0] = 255
    (said,) = Identity(model, subject=dot).verdicts(case(picture(1), picture(2), mask=None))
    assert said.reason == "not asked: no patch of the model shows the subject"


def test_it_is_asked_by_name(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTXREP_EDIT_IDENTITY", model)
    mask = np.full((56, 56), 255, np.uint8)
    mask[:, :28] = 0
    (edit,) = assess(picture(1), [picture(2)], mask=mask, checks=["identity"])
    assert edit.verdicts["identity"].measure == "identity of the subject"


def test_it_needs_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CTXREP_EDIT_IDENTITY", raising=False)
    with pytest.raises(ModelError, match="needs a model of features, such as DINO: name one in CTXREP_EDIT_IDENTITY"):
        Identity().prepare()
    monkeypatch.setenv("CTXREP_EDIT_IDENTITY", str(tmp_path))
    with pytest.raises(ModelError, match=r"The model '.*' cannot be loaded: .*\. Check the name\."):
        Identity().prepare()
