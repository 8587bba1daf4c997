"""The repulsion step where it is delicate: dtypes, equal and empty particles, numbers beyond bounds, bad arguments."""

from dataclasses import FrozenInstanceError
from typing import Any

import pytest
import torch
from contextual import error, particles
from torch import Tensor

from ctxrep_edit.errors import InputError, RepulsionError
from ctxrep_edit.repulsion.ascent import Step, repel, vendi_score

OBJECTIVES = ["entropy", "renyi2"]


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
