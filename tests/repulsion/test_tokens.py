"""Tokens of one place, and their mean."""

from typing import Any

import pytest
import torch

from ctxrep_edit.repulsion.ascent import repel, repel_parts
from ctxrep_edit.repulsion.tokens import Part, pooled, spread


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pooled_is_a_projection_on_what_is_alike(dtype: Any) -> None:
    """Tokens that are all alike are repelled by their mean as they are by themselves."""
    alike = torch.randn(4, 1, 8, generator=torch.Generator().manual_seed(0)).expand(4, 6, 8).to(dtype)
    for keep_norm in (False, True):
        part = Part(alike.contiguous())
        one = pooled(part)
        (moved,), *_ = repel_parts(
            [one], strength=0.5, eta=None, iterations=3, objective="entropy", keep_norm=keep_norm, fixed=1
        )
        got = spread(part, one, moved, keep_norm=keep_norm, fixed=1)
        wanted = repel(alike.float(), strength=0.5, iterations=3, keep_norm=keep_norm, fixed=1).tokens
        assert got.dtype == dtype
        assert torch.equal(got[0], alike[0])
        assert torch.allclose(got.float(), wanted, atol=1e-5 if dtype == torch.float32 else 0.03)
