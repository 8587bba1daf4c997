"""Which tokens and channels repel, where they do not come first or are not all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import tiny
import torch
from ctxrep_adapters.flux_kontext import FluxKontext
from PIL import Image
from tiny import DOUBLE, SOME

from ctxrep_edit import Bank, PluginError, Scope, repelled
from ctxrep_edit.repulsion.ascent import repel_parts
from ctxrep_edit.repulsion.tokens import Part


class Marked(FluxKontext):
    """Says which tokens are generated one by one."""

    def generated(self, call: Mapping[str, Any]) -> torch.Tensor:  # type: ignore[override]
        return (call["img_ids"][:, 0] == 0).cpu()


class Short(FluxKontext):
    def generated(self, call: Mapping[str, Any]) -> torch.Tensor:  # type: ignore[override]
        return torch.ones(3, dtype=torch.bool)


class Lower(FluxKontext):
    scopes = {
        "lower": Scope(
            {DOUBLE: frozenset({"instruction", "generated"})}, "the lower half", channels={DOUBLE: (0.0, 0.5)}
        )
    }


def test_a_mask_says_the_same_as_a_number(pipeline: Any, picture: Image.Image) -> None:
    made = []
    for adapter in (FluxKontext(), Marked()):
        with repelled(pipeline, SOME, particles=3, adapter=adapter):
            made.append(tiny.run(pipeline, picture))
    assert torch.equal(*made)


def test_a_mask_of_another_length_names_the_adapter(pipeline: Any, picture: Image.Image) -> None:
    with (
        pytest.raises(PluginError, match=r"flux-kontext gives as generated is \(3,\) of torch\.bool, but must be"),
        repelled(pipeline, SOME, particles=3, adapter=Short()),
    ):
        tiny.run(pipeline, picture)


@pytest.mark.parametrize("banked", [False, True])
def test_channels_that_do_not_repel_stay(pipeline: Any, picture: Image.Image, banked: bool) -> None:
    seen: list[torch.Tensor] = []
    block = pipeline.transformer.transformer_blocks[0]
    handle = block.register_forward_hook(lambda module, args, out: seen.append(out[0]))
    tiny.run(pipeline, picture)
    bank = Bank() if banked else None
    with repelled(pipeline, replace(SOME, scope="lower"), particles=3, adapter=Lower(), bank=bank):
        tiny.run(pipeline, picture)
    handle.remove()
    plain, moved = seen[0], seen[tiny.STEPS]
    changed = (plain != moved).any(0).any(0)  # (channels,)
    half = len(changed) // 2
    assert changed[:half].all()
    assert not changed[half:].any()


def test_a_bank_keeps_tokens_of_fewer_channels_apart_from_others() -> None:
    """Zeros in the place of the channels that are none add nothing to a product."""
    generator = torch.Generator().manual_seed(0)
    parts = [Part(torch.randn(3, 4, dim, generator=generator)) for dim in (4, 8)]
    options = {"strength": None, "eta": 5.0, "iterations": 3, "objective": "entropy", "keep_norm": True}
    (one, other), *scores = repel_parts(parts, fixed=0, **options)
    bank = Bank(noting=True)
    bank.kept[0] = {(0, 1, 0, 0): torch.zeros(8, 8)}  # one that neither moves nor repels
    (same, too), *others = bank.repel((0, 1, 0, 0), parts, fixed=0, **options)
    assert same.shape == one.shape
    assert torch.allclose(same, one, atol=1e-5)
    assert torch.allclose(too, other, atol=1e-5)
    assert scores == pytest.approx(others, rel=1e-5)
