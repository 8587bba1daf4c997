"""The check of instruction-following, with a CLIP model of random weights: what it computes, and what it asks for."""

from pathlib import Path

import pytest
import torch
from ctxrep_plugins.checks.following import Following
from ctxrep_plugins.nano.text import clip_tokenizer
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

from ctxrep_edit import CHECKS, Case, ModelError


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    tokenizer = clip_tokenizer()
    layers = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**layers, "vocab_size": len(tokenizer), "max_position_embeddings": 77}
    text |= {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id}
    vision = {**layers, "image_size": 32, "patch_size": 8}
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(folder)
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(processor, tokenizer).save_pretrained(folder)
    return folder


def test_the_direction_decides(clip: Path) -> None:
    source = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(1))
    case = Case(source, torch.cat([source, 1 - source]), None, "make it night", False, lambda: source)
    check = Following(str(clip))
    same, other = check.verdicts(case)
    assert same.value == pytest.approx(0, abs=1e-4)  # it moved nowhere
    assert not same.kept
    pictures, words = check._pictures(torch.cat([source, 1 - source])), check._words(["a photo", "make it night"])
    wanted = torch.cosine_similarity(pictures[1] - pictures[0], words[1] - words[0], dim=0)
    assert other.value == pytest.approx(float(wanted), abs=1e-5)
    assert -1 <= other.value <= 1
    assert Following(str(clip), least=-1.0).verdicts(case)[1].kept


def test_it_needs_a_model(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = CHECKS.get("following")
    monkeypatch.delenv("CTXREP_EDIT_CLIP", raising=False)
    with pytest.raises(ModelError, match="needs a CLIP model: name one in CTXREP_EDIT_CLIP, or give Following"):
        check.prepare()
    monkeypatch.setenv("CTXREP_EDIT_CLIP", str(tmp_path))
    with pytest.raises(ModelError, match=r"The CLIP model '.*' cannot be loaded: .*\. Check the name\."):
        check.prepare()
    monkeypatch.setenv("CTXREP_EDIT_CLIP", str(clip))
    CHECKS.get("following").prepare()
