"""LongCat-Image that edits, on a tiny real pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import families
import numpy as np
import pytest
import tiny_longcat
import torch
from ctxrep_adapters.longcat_image import LongCatImageEdit

from ctxrep_edit import InputError, diverse_edit
from ctxrep_edit.testing import tiny_picture

CALL = {"seed": 0, "steps": 3, "preserve": "off", "progress": False}


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        tiny_longcat.small(patch)
        yield


@pytest.fixture(scope="module")
def family() -> Any:
    return tiny_longcat.pipeline()


class TestLongCat(families.FamilyConformance):
    size = (96, 80)  # what it makes of 4 to 3


@pytest.mark.parametrize("words", ["add a hat", "write 'Hello' on it", "it's red"])
def test_the_mask_is_the_words(family: Any, words: str) -> None:
    seen: dict[str, Any] = {}
    hooks = []
    for name in ("text_encoder", "transformer"):

        def note(module: Any, args: Any, call: dict[str, Any], name: str = name) -> None:
            seen.setdefault(name, call)

        hooks.append(getattr(family, name).register_forward_pre_hook(note, with_kwargs=True))
    given = {"image": tiny_picture(96, 64), "prompt": words, "num_inference_steps": 1}
    family(**given, generator=torch.Generator().manual_seed(0))
    for hook in hooks:
        hook.remove()
    mask = LongCatImageEdit().instruction(family, given)(seen["transformer"])
    prefix = len(family.tokenizer("<|im_start|>Look.")["input_ids"])
    tokens = seen["text_encoder"]["input_ids"][0, prefix : prefix + len(mask)]
    assert family.tokenizer.decode(tokens[mask]) == words


def test_steps_are_followed_although_it_takes_no_callback(family: Any) -> None:
    seen: list[tuple[int, int]] = []
    scheduler = family.scheduler
    edits = diverse_edit(
        tiny_picture(96, 64), "add a hat", 2, pipeline=family, on_step=lambda *steps: seen.append(steps), **CALL
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert family.scheduler is scheduler
    assert "step" not in vars(scheduler)
    assert edits.recipe["size"] == [96, 64]


def test_an_instruction_that_is_too_long_is_refused(family: Any) -> None:
    with pytest.raises(InputError, match="is 64 tokens long, but longcat-image-edit reads 40: use fewer words"):
        diverse_edit(tiny_picture(96, 64), "it is red" * 7 + "!", 2, pipeline=family, **CALL)


def test_a_pool_is_chosen_from_although_it_takes_no_callback(family: Any) -> None:
    pool = diverse_edit(tiny_picture(96, 64), "add a hat", 2, pipeline=family, oversample=2, **CALL)
    plain = diverse_edit(tiny_picture(96, 64), "add a hat", 2, pipeline=family, strength=0, **CALL)
    first, other = (np.asarray(edits[0].image).astype(int) for edits in (pool, plain))
    assert np.abs(first - other).max() <= 1  # the anchor
