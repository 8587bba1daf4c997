"""The repulsion step, held against autograd on the paper's equations and against what it promises."""

from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ctxrep_edit.errors import InputError, RepulsionError
from ctxrep_edit.repulsion import ascent
from ctxrep_edit.repulsion.ascent import Step, coefficients, repel, vendi_score

OBJECTIVES = ["entropy", "renyi2"]
few = settings(max_examples=25, deadline=None, derandomize=True)
seeds = st.integers(0, 2**31 - 1)
counts = st.integers(2, 6)


def particles(n: int, noise: float, seed: int = 0, length: int = 5, dim: int = 7) -> Tensor:
    """A common vector plus noise, as contextual tokens are; float64."""
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(1, length, dim, generator=generator, dtype=torch.float64)
    return common + noise * torch.randn(n, length, dim, generator=generator, dtype=torch.float64)  # (n, length, dim)


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


def error(got: Tensor, wanted: Tensor) -> float:
    return float((got.double() - wanted).norm() / wanted.norm())


# --- against the paper's equations -----------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(("n", "iterations"), [(2, 1), (3, 50), (6, 20)])
@pytest.mark.parametrize("noise", [1.0, 1e-2])
@pytest.mark.parametrize("strength", [0.1, 2.0])
def test_equals_autograd(objective: Any, n: int, iterations: int, noise: float, strength: float) -> None:
    x = particles(n, noise, seed=n)
    eta = strength * float(x.square().sum()) / n
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
    eta = strength * float(x.square().sum()) / 6
    step = repel(x, eta=eta, objective=objective, keep_norm=False)
    assert error(step.tokens, paper_loop(x, eta, 50, objective)) <= 1e-9
    assert step.vendi_before < step.vendi_after <= 3.0


def test_blocks_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    x = particles(3, 1e-2)
    mask = torch.tensor([True, False, True, True, False])
    whole, masked = repel(x, strength=1.0).tokens, repel(x, strength=1.0, mask=mask).tokens
    monkeypatch.setattr(ascent, "CPU_BLOCK", 3 * 7 * 2)  # two token positions at a time, the last block short
    assert error(repel(x, strength=1.0).tokens, whole) <= 1e-12
    assert error(repel(x, strength=1.0, mask=mask).tokens, masked) <= 1e-12


# --- the Vendi score -------------------------------------------------------------------------------------------------


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


# --- properties ------------------------------------------------------------------------------------------------------


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


# --- dtypes, layout, edges -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float16, 2e-3), (torch.bfloat16, 1e-2), (torch.float32, 1e-6), (torch.float64, 1e-12)],
)
@pytest.mark.parametrize("mask", [None, torch.tensor([True, True, False, True, True])])
def test_dtypes_pass_through(dtype: torch.dtype, tolerance: float, mask: Tensor | None) -> None:
    x = particles(3, 0.3).to(dtype)
    before = x.clone()
    moved = repel(x, strength=1.0, mask=mask).tokens
    assert (moved.dtype, moved.shape, moved.device) == (dtype, x.shape, x.device)
    assert torch.equal(x, before)  # not in place
    assert error(moved, repel(x.double(), strength=1.0, mask=mask).tokens) <= tolerance
    assert error(moved, x.double()) > 0.05
    assert isinstance(vendi_score(x), float)


def test_layout_and_gradients_do_not_matter() -> None:
    x = particles(3, 0.1)
    strided = x.transpose(1, 2).contiguous().transpose(1, 2).requires_grad_()
    moved = repel(strided, strength=1.0).tokens
    assert torch.allclose(moved, repel(x, strength=1.0).tokens, rtol=1e-12)
    assert not moved.requires_grad


def test_step_is_frozen() -> None:
    step = repel(particles(2, 0.1), strength=1.0)
    assert isinstance(step, Step)
    with pytest.raises(FrozenInstanceError):
        step.vendi_after = 2.0  # type: ignore[misc]


def test_one_particle_has_nobody_to_flee() -> None:
    x = particles(1, 1.0)
    step = repel(x, strength=5.0)
    assert step.tokens is x
    assert (step.vendi_before, step.vendi_after) == (1.0, 1.0)


def test_an_empty_mask_moves_nothing() -> None:
    x = particles(3, 1.0)
    for shape in ((5,), (3, 5)):
        assert repel(x, strength=5.0, mask=torch.zeros(shape, dtype=torch.bool)).tokens is x


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("strength", [1.0, 30.0])
def test_identical_particles_stay_where_they_are(objective: Any, strength: float) -> None:
    x = particles(1, 1.0).expand(4, -1, -1)
    step = repel(x, strength=strength, objective=objective, keep_norm=False)
    assert error(step.tokens, x) <= 1e-12
    assert step.vendi_after == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(("strength", "tolerance"), [(1.0, 1e-10), (30.0, 1e-5)])  # rounding grows with M steps
def test_an_identical_pair_moves_together(objective: Any, strength: float, tolerance: float) -> None:
    x = particles(4, 1e-2)
    x[2] = x[1]
    step = repel(x, strength=strength, objective=objective)
    assert torch.isfinite(step.tokens).all()
    assert error(step.tokens[2], step.tokens[1]) <= tolerance
    assert error(step.tokens[1], x[1]) > 1e-3
    assert step.vendi_after <= 3.0 + 1e-6


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_zero_particle_neither_moves_nor_repels(objective: Any) -> None:
    x = particles(4, 1e-2)
    x[1] = 0.0
    others = [0, 2, 3]
    step = repel(x, eta=5.0, objective=objective)
    without = repel(x[others], eta=5.0, objective=objective)
    assert not step.tokens[1].any()
    torch.testing.assert_close(step.tokens[others], without.tokens, rtol=1e-12, atol=1e-12)
    assert (step.vendi_before, step.vendi_after) == pytest.approx((without.vendi_before, without.vendi_after))


def test_zero_particles_only() -> None:
    x = torch.zeros(3, 5, 7)
    step = repel(x, strength=1.0)
    assert step.tokens is x
    assert (step.vendi_before, step.vendi_after) == (1.0, 1.0)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_values_that_are_not_finite(value: float) -> None:
    x = particles(3, 0.1).half()
    x[1, 2, 3] = value
    with pytest.raises(RepulsionError, match=r"particle\(s\) \[1\] of 3 .* run the pipeline in bfloat16 or float32"):
        repel(x, strength=1.0)
    with pytest.raises(RepulsionError, match="NaN or infinite"):
        vendi_score(x)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_step_beyond_float64(objective: Any) -> None:
    with pytest.raises(RepulsionError, match=r"overflowed: eta=.*lower the strength"):
        repel(particles(3, 0.1), strength=1e250, objective=objective)


def test_coefficients_are_what_repel_applies() -> None:
    x = particles(3, 1e-2)
    gram = (x.flatten(1) @ x.flatten(1).T).numpy()
    mix, before, after = coefficients(gram, eta=5.0, iterations=7, objective="entropy", fixed=1)
    step = repel(x, eta=5.0, iterations=7, fixed=1, keep_norm=False)
    assert error(torch.einsum("ij,jtd->itd", torch.from_numpy(mix), x), step.tokens) <= 1e-12
    assert mix[0].tolist() == [1.0, 0.0, 0.0]
    assert (before, after) == pytest.approx((step.vendi_before, step.vendi_after), abs=1e-12)
    assert after > before


# --- bad arguments ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        ({"strength": None}, "by neither of strength and eta"),
        ({"eta": 1.0}, "by both of strength and eta"),
        ({"strength": -0.1}, r"strength is -0\.1, but a step size"),
        ({"strength": float("nan")}, "strength is nan, but a step size"),
        ({"strength": None, "eta": -2.0}, r"eta is -2\.0, but a step size"),
        ({"strength": None, "eta": float("inf")}, "eta is inf, but a step size"),
        ({"iterations": 0}, "iterations is 0, but at least 1"),
        ({"objective": "logdet"}, "objective is 'logdet', but must be one of entropy, renyi2"),
        ({"mask": torch.ones(5)}, r"mask is \(5,\) float32, but must be bool"),
        ({"mask": torch.ones(4, dtype=torch.bool)}, r"mask is \(4,\) bool, but these tokens need \(5,\) or \(3, 5\)"),
        ({"mask": torch.ones(2, 5, dtype=torch.bool)}, r"mask is \(2, 5\) bool, but these tokens need"),
        ({"fixed": -1}, "fixed is -1, but counts"),
        ({"fixed": 4}, "fixed is 4, but counts particles that stay in place: 0 to 3"),
        ({"tokens": torch.ones(3, 5)}, r"tokens is \(3, 5\) float32, but repulsion takes \(n, tokens, dim\)"),
        ({"tokens": torch.ones(0, 5, 7)}, r"tokens is \(0, 5, 7\) float32, but repulsion takes"),
        ({"tokens": torch.ones(3, 5, 7, dtype=torch.int32)}, "int32, but only floating-point tokens can move"),
    ],
)
def test_bad_arguments(change: dict[str, Any], fragment: str) -> None:
    arguments: dict[str, Any] = {"tokens": particles(3, 0.1), "strength": 1.0} | change
    with pytest.raises(InputError, match=fragment):
        repel(arguments.pop("tokens"), **arguments)


@pytest.mark.parametrize("vectors", [torch.ones(3), torch.ones(0, 3), torch.ones(2, 3, dtype=torch.long)])
def test_vendi_score_of_what_it_cannot_take(vectors: Tensor) -> None:
    with pytest.raises(InputError, match="the Vendi score takes a floating-point tensor"):
        vendi_score(vectors)


def test_public_names() -> None:
    assert ascent.__all__ == ["Objective", "Step", "coefficients", "repel", "vendi_score"]
