"""Which text tokens carry the instruction, as callers say it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny
import torch

from ctxrep_edit import InputError, attach, repelled

MASK = [True] * tiny.TOKENS + [False] * (tiny.LENGTH - tiny.TOKENS)


@pytest.mark.parametrize("given", [[1] * 16, torch.ones(16), torch.zeros(16, dtype=torch.bool), "words", 3, [MASK]])
def test_what_is_no_mask(pipeline: Any, given: Any) -> None:
    with pytest.raises(InputError) as refused:
        attach(pipeline, tiny.SOME, particles=3, instruction=given)
    assert str(refused.value) == (
        "instruction must say of each text token whether it carries the instruction: bool (tokens,), True for at least "
        "one. A tokenizer's attention_mask[0] is one as attention_mask[0].bool()."
    )


def test_every_form_of_a_mask_is_the_same(pipeline: Any, picture: Any) -> None:
    made = []
    for given in (torch.tensor(MASK), MASK, np.array(MASK), lambda call: torch.tensor(MASK)):
        with repelled(pipeline, tiny.SOME, particles=3, instruction=given):
            made.append(tiny.run(pipeline, picture))
    assert all(torch.equal(made[0], other) for other in made[1:])
    with repelled(pipeline, tiny.SOME, particles=3):
        assert not torch.equal(tiny.run(pipeline, picture), made[0])


def test_a_function_is_shown_the_call_and_must_give_a_mask(pipeline: Any, picture: Any) -> None:
    seen: list[Any] = []

    def mask(call: Any) -> Any:
        seen.append(call["encoder_hidden_states"].shape)
        return [1] * 16

    hooked = repelled(pipeline, tiny.SOME, particles=3, instruction=mask)
    with pytest.raises(InputError, match=r"^What the adapter's instruction gives must say of each text"), hooked:
        tiny.run(pipeline, picture)
    assert seen == [(3, 16, 32)]
