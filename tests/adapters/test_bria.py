"""Bria FIBO that edits, on a tiny real pipeline."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import families
import pytest
import tiny_bria
import torch
from ctxrep_adapters.bria_fibo import BriaFiboEdit
from torch import Tensor

from ctxrep_edit import Repulsion, Request, repelled
from ctxrep_edit.testing import tiny_picture


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        tiny_bria.small(patch)
        yield


@pytest.fixture(scope="module")
def family() -> Any:
    return tiny_bria.pipeline()


class TestBria(families.FamilyConformance):
    size = (96, 96)


def given(family: Any, words: str, n: int = 1) -> dict[str, Any]:
    generators = [torch.Generator().manual_seed(i) for i in range(n)]
    request = Request(tiny_picture(96, 64), words, generators, (96, 64), 2, None)
    return BriaFiboEdit().arguments(family, request)


JSON = json.dumps({"edit_instruction": "it", "mood": "a"})


@pytest.mark.parametrize("words", ["add a hat", 'write "Hi" on it', JSON])
def test_the_mask_is_the_words_within_the_json(family: Any, words: str) -> None:
    asked = given(family, words)
    tokens = family.tokenizer(asked["prompt"])["input_ids"]
    mask = BriaFiboEdit().instruction(family, asked)({"encoder_hidden_states": torch.zeros(1, len(tokens) + 3, 4)})
    marked = family.tokenizer.decode(torch.tensor(tokens)[mask[: len(tokens)]])
    assert marked == (words if words.startswith("{") else json.dumps(words)[1:-1])
    assert not mask[len(tokens) :].any()


def test_a_push_stays_in_the_channels_that_go_on(family: Any) -> None:
    """The transformer writes over the others before the next block."""
    moved: list[Tensor] = []
    before: list[Tensor] = []
    block = family.transformer.transformer_blocks[-1]
    forward = block.forward

    def kept(*args: Any, **options: Any) -> Any:
        out = forward(*args, **options)
        before.append(out[0].clone())
        return out

    block.forward = kept
    handle = block.register_forward_hook(lambda module, args, out: moved.append(out[0].clone()))
    asked, adapter = given(family, "add a hat", 2), BriaFiboEdit()
    try:
        words = adapter.instruction(family, asked)
        with repelled(family, Repulsion(scope="context", strength=2.0, steps=1), particles=2, instruction=words):
            family(**asked)
    finally:
        handle.remove()
        del block.forward
    changed = (before[0] != moved[0]).any(0).any(0)  # (channels,)
    half = len(changed) // 2
    assert changed[:half].all()
    assert not changed[half:].any()
