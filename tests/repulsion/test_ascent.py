"""The repulsion step, held against autograd on the paper's equations and against what it promises."""

from typing import Any

import numpy as np
import pytest
import torch
from contextual import error, particles
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ctxrep_edit.repulsion import ascent, tokens
from ctxrep_edit.repulsion.ascent import coefficients, repel, step_of_one, vendi_score

OBJECTIVES = ["entropy", "renyi2"]
few = settings(max_examples=25, deadline=None, derandomize=True)
seeds = st.integers(0, 2**31 - 1)
counts = st.integers(2, 6)


def diversity(x: Tensor, objective: str) -> Tensor:
    """L_div of eq. 3 and 4 (or its order-2 sibling) of flat particles (n, numbers)."""
    unit = x / x.norm(dim=1, keepdim=True)
    rho = unit @ unit.T / len(x)  # (n, n)
    if objective == "renyi2":
        return torch.log((rho * rho).sum()).neg()
    values = torch.linalg.eigvalsh(rho).clamp_min(1e-13)
    return torch.dot(values, values.log()).neg()


def paper_loop(tokens: Tensor, eta: float, iterations: int, objective: str, fixed: int = 0) -> Tensor:
    """Eq. 2, M times, by automatic differentiation at full size."""
    x = tokens.double().flatten(1)  # (n, numbers)
    for _ in range(iterations):
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(diversity(x, objective), x)
        gradient[:fixed] = 0
        x = x + eta / iterations * gradient
    return x.detach().view(tokens.shape)


def inner(x: Tensor) -> np.ndarray:
    """The inner products of particles: (n, n)."""
    return (x.flatten(1) @ x.flatten(1).T).numpy()


# Against the paper's equations


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(("n", "iterations"), [(2, 1), (3, 50), (6, 20)])
@pytest.mark.parametrize("noise", [1.0, 1e-2])
@pytest.mark.parametrize("strength", [0.1, 2.0])
def test_equals_autograd(objective: Any, n: int, iterations: int, noise: float, strength: float) -> None:
    x = particles(n, noise, seed=n)
    eta = strength * step_of_one(inner(x))
    wanted = paper_loop(x, eta, iterations, objective)
    assert error(wanted, x) > 1e-6  # the comparison is about something
    step = repel(x, eta=eta, iterations=iterations, objective=objective, keep_norm=False)
    assert error(step.tokens, wanted) <= 1e-9
    assert error(step.tokens - x, wanted - x) <= 1e-8
    assert step.vendi_before == pytest.approx(float(diversity(x.flatten(1), objective).exp()), abs=1e-9)
    assert step.vendi_after == pytest.approx(float(diversity(wanted.flatten(1), objective).exp()), abs=1e-9)
    by_strength = repel(x, strength=strength, iterations=iterations, objective=objective, keep_norm=False)
    assert error(by_strength.tokens, wanted) <= 1e-9


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("noise", [1.0, 1e-2, 1e-3])
def test_float32_equals_autograd(objective: Any, noise: float) -> None:
    x = particles(4, noise).float()
    eta = float(x.square().sum()) / 4
    wanted = paper_loop(x, eta, 20, objective)
    moved = repel(x, eta=eta, iterations=20, objective=objective, keep_norm=False).tokens
    assert moved.dtype == torch.float32
    assert error(moved, wanted) <= 1e-6
    assert error(moved.double() - x, wanted - x.double()) <= 1e-3


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_fixed_particles_equal_autograd(objective: Any) -> None:
    x = particles(5, 1e-2)
    wanted = paper_loop(x, 20.0, 20, objective, fixed=2)
    moved = repel(x, eta=20.0, iterations=20, objective=objective, keep_norm=False, fixed=2).tokens
    assert error(moved - x, wanted - x) <= 1e-8


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("strength", [1.0, 10.0])
def test_more_particles_than_dimensions(objective: Any, strength: float) -> None:
    x = particles(6, 0.3, length=1, dim=3)  # rho has three eigenvalues that are nothing but rounding
    eta = strength * step_of_one(inner(x))
    step = repel(x, eta=eta, iterations=50, objective=objective, keep_norm=False)
    assert error(step.tokens, paper_loop(x, eta, 50, objective)) <= 1e-9
    assert step.vendi_before < step.vendi_after <= 3.0


def test_blocks_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    x = particles(3, 1e-2)
    mask = torch.tensor([True, False, True, True, False])
    whole, masked = repel(x, strength=1.0).tokens, repel(x, strength=1.0, mask=mask).tokens
    monkeypatch.setattr(tokens, "CPU_BLOCK", 3 * 7 * 2)  # two token positions at a time, the last block short
    assert error(repel(x, strength=1.0).tokens, whole) <= 1e-11
    assert error(repel(x, strength=1.0, mask=mask).tokens, masked) <= 1e-11


def test_coefficients_are_what_repel_applies() -> None:
    x = particles(3, 1e-2)
    mix, before, after = coefficients(inner(x), eta=5.0, iterations=7, objective="entropy", fixed=1)
    step = repel(x, eta=5.0, iterations=7, fixed=1, keep_norm=False)
    assert error(torch.einsum("ij,jtd->itd", torch.from_numpy(mix), x), step.tokens) <= 1e-11
    assert mix[0].tolist() == [1.0, 0.0, 0.0]
    assert (before, after) == pytest.approx((step.vendi_before, step.vendi_after), abs=1e-12)
    assert after > before


# The Vendi score


def test_vendi_score_of_known_sets() -> None:
    assert vendi_score(torch.eye(4)) == pytest.approx(4.0)
    assert vendi_score(torch.ones(3, 2, 2)) == pytest.approx(1.0)
    assert vendi_score(torch.tensor([[1.0, 0.0], [5.0, 0.0], [0.0, 0.1], [0.0, 2.0]])) == pytest.approx(2.0)
    assert vendi_score(torch.randn(1, 9)) == 1.0
    angle = torch.tensor(np.pi / 3)
    pair = torch.stack([torch.tensor([1.0, 0.0]), torch.stack([angle.cos(), angle.sin()])])  # eigenvalues 3/4 and 1/4
    assert vendi_score(pair) == pytest.approx(np.exp(0.75 * np.log(4 / 3) + 0.25 * np.log(4)), rel=1e-6)


def test_zero_vectors_do_not_count() -> None:
    assert vendi_score(torch.zeros(3, 4)) == 1.0
    assert vendi_score(torch.cat([torch.eye(2), torch.zeros(3, 2)])) == pytest.approx(2.0)


@few
@given(seed=seeds, n=st.integers(1, 6), noise=st.sampled_from([0.0, 1e-6, 1e-2, 1.0, 100.0]))
def test_vendi_score_stays_in_range(seed: int, n: int, noise: float) -> None:
    assert 1.0 <= vendi_score(particles(n, noise, seed)) <= n


# Properties


@few
@given(seed=seeds, n=counts, objective=st.sampled_from(OBJECTIVES), data=st.data())
def test_permuting_particles_permutes_the_result(seed: int, n: int, objective: Any, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(n)))
    x = particles(n, 1e-2, seed)
    straight, permuted = repel(x, strength=0.5, objective=objective), repel(x[order], strength=0.5, objective=objective)
    assert error(permuted.tokens, straight.tokens[order]) <= 1e-9
    assert permuted.vendi_after == pytest.approx(straight.vendi_after, abs=1e-9)


@few
@given(seed=seeds, n=counts, noise=st.sampled_from([1e-2, 0.3, 1.0]), objective=st.sampled_from(OBJECTIVES))
def test_small_steps_never_lower_the_score(seed: int, n: int, noise: float, objective: Any) -> None:
    x = particles(n, noise, seed)
    step = repel(x, strength=0.01, objective=objective, keep_norm=False)
    assert step.vendi_after > step.vendi_before
    if objective == "entropy":
        assert step.vendi_before == pytest.approx(vendi_score(x), abs=1e-12)
        assert step.vendi_after == pytest.approx(vendi_score(step.tokens), abs=1e-9)


@few
@given(seed=seeds, n=counts, noise=st.sampled_from([0.0, 1e-2, 1.0]))
def test_strength_zero_is_the_identity(seed: int, n: int, noise: float) -> None:
    x = particles(n, noise, seed)
    for step in (repel(x, strength=0.0), repel(x, eta=0), repel(x, strength=1.0, fixed=n)):
        assert step.tokens is x
        assert step.vendi_before == step.vendi_after == vendi_score(x)


@few
@given(seed=seeds, n=counts, data=st.data())
def test_masked_tokens_are_bit_identical(seed: int, n: int, data: st.DataObject) -> None:
    x = particles(n, 1e-2, seed).float()
    mask = torch.tensor(data.draw(st.lists(st.booleans(), min_size=5, max_size=5)))
    moved = repel(x, strength=1.0, mask=mask).tokens
    assert torch.equal(moved[:, ~mask], x[:, ~mask])
    assert torch.equal(moved[:, mask], repel(x[:, mask], strength=1.0).tokens)  # as if the others weren't there
    if mask.any():
        assert not torch.equal(moved[:, mask], x[:, mask])


@few
@given(seed=seeds, n=counts, data=st.data())
def test_a_mask_per_particle(seed: int, n: int, data: st.DataObject) -> None:
    x = particles(n, 1e-2, seed)
    mask = torch.tensor(data.draw(st.lists(st.booleans(), min_size=5 * n, max_size=5 * n))).view(n, 5)
    x[~mask] = torch.nan  # what takes no part cannot spoil anything
    moved = repel(x, eta=5.0, mask=mask, keep_norm=False).tokens
    assert torch.equal(moved.view(torch.int64)[~mask], x.view(torch.int64)[~mask])
    alone = repel(x.nan_to_num(0.0), eta=5.0, keep_norm=False).tokens  # unselected tokens count as zero
    torch.testing.assert_close(moved[mask], alone[mask], rtol=1e-9, atol=1e-12)


@few
@given(seed=seeds, n=counts, data=st.data(), keep_norm=st.booleans())
def test_fixed_particles_are_bit_identical_and_repel(seed: int, n: int, data: st.DataObject, keep_norm: bool) -> None:
    fixed = data.draw(st.integers(1, n - 1))
    x = particles(n, 1e-2, seed).float()
    step = repel(x, strength=1.0, fixed=fixed, keep_norm=keep_norm)
    assert torch.equal(step.tokens[:fixed], x[:fixed])
    assert step.vendi_after > step.vendi_before
    for i in range(fixed, n):
        assert not torch.equal(step.tokens[i], x[i])


@few
@given(seed=seeds, n=counts, strength=st.sampled_from([0.1, 1.0, 10.0]))
def test_norms_are_kept(seed: int, n: int, strength: float) -> None:
    x = particles(n, 0.1, seed)
    x[0, 2] = 0.0
    kept = repel(x, strength=strength).tokens
    torch.testing.assert_close(kept.norm(dim=-1), x.norm(dim=-1), rtol=1e-12, atol=0.0)
    free = repel(x, strength=strength, keep_norm=False).tokens
    assert not torch.allclose(free.norm(dim=-1), x.norm(dim=-1), rtol=1e-6)
    assert torch.allclose(torch.cosine_similarity(kept[1:], free[1:], dim=-1), torch.ones(()).double())


def test_public_names() -> None:
    assert ascent.__all__ == ["Moved", "Objective", "Step", "coefficients", "repel", "repel_parts", "vendi_score"]


@pytest.mark.parametrize("noise", [0.03, 0.1, 0.3])
@pytest.mark.parametrize("strength", [0.05, 0.3])
def test_a_strength_means_the_same_for_any_n(noise: float, strength: float) -> None:
    """How far a particle moves, beside its norm."""
    everyone = particles(24, noise, length=20, dim=64)
    moves = []
    for n in (2, 6, 12, 24):
        x = everyone[:n]
        moved = repel(x, strength=strength, keep_norm=False).tokens
        moves.append(float(((moved - x).flatten(1).norm(dim=1) / x.flatten(1).norm(dim=1)).mean()))
    assert moves == pytest.approx([moves[1]] * 4, rel=0.1)
