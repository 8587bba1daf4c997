"""Tokens of one place, and their mean."""

from typing import Any

import pytest
import torch

from ctxrep_edit.repulsion.ascent import repel, repel_parts
from ctxrep_edit.repulsion.tokens import Part, inner_products, pooled, spread


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


@pytest.mark.parametrize("zero", [None, 0, 2, 5])
@pytest.mark.parametrize("k", [1, 4])
def test_inner_products_of_the_first_particles_need_not_be_found_anew(k: int, zero: int | None) -> None:
    """Particles that are nearly alike, of which one may have no direction."""
    generator = torch.Generator().manual_seed(0)
    some = torch.randn(1, 9, 8, generator=generator) + 1e-3 * torch.randn(6, 9, 8, generator=generator)
    if zero is not None:
        some[zero] = 0.0
    parts = [Part(some[:, :5].contiguous()), Part(some, slice(5, 9))]
    wanted = inner_products(parts)
    got = inner_products(parts, inner_products([Part(some[:k])]))
    exact = some.double().flatten(1) @ some.double().flatten(1).T
    for found in (got, wanted):
        assert abs(found - exact.numpy()).max() <= 1e-6 * exact.max()
    if zero is None:  # what they differ in is known as well
        apart = exact.diagonal()[:, None] + exact.diagonal() - 2 * exact
        found = got.diagonal()[:, None] + got.diagonal() - 2 * got
        assert abs(found - apart.numpy()).max() <= 1e-4 * apart.max()
