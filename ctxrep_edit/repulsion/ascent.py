"""Repulsion of particles in the contextual space: the mathematics alone, on plain tensors.

A particle c_i is one sample's contextual tokens, flattened. The step raises the diversity L of n particles,

    c_i <- c_i + (eta / M) dL/dc_i,  M times         (eq. 2)
    K_ij = cos(c_i, c_j)                             (eq. 3)
    L = -tr(rho ln rho),  rho = K / n                (eq. 4; exp(L) is the Vendi score)

of Dahary, Koren, Garibi and Cohen-Or, "On-the-fly repulsion in the contextual space for rich diversity in diffusion
transformers", 2026, arXiv 2603.28762. The Vendi score is Friedman and Dieng's, 2023, arXiv 2210.02410.

The gradient of L is a combination of the particles themselves, so every iterate is C X for some n x n matrix C. The
loop therefore needs only the inner products X X^T: it runs on n x n matrices on the host, and X, which may hold
millions of numbers, is read once before it and mixed once after it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from ctxrep_edit.errors import InputError, RepulsionError
from ctxrep_edit.repulsion.tokens import NULL_NORM, Matrix, Part, inner_products, mixed

__all__ = ["Moved", "Objective", "Step", "coefficients", "repel", "repel_parts", "vendi_score"]

Objective = Literal["entropy", "renyi2"]
Moved: TypeAlias = tuple[list[Tensor], float, float]
"""Of each part the moved tokens (n, tokens, dim), and the Vendi scores before and after."""

SIX = 6  # particles, with which strengths are compared: the n of `diverse_edit` where nothing is said
NULL_COSINE = 1e-9  # nearer to 0 or 1 mean cosines are not told from it
NULL_EIGENVALUE = 1e-13  # of rho; below it lies the rounding of the Gram matrix, not a difference between particles


@dataclass(frozen=True)
class Step:
    """What one repulsion step did.

    tokens: the moved contextual tokens, (n, tokens, dim), dtype and device as given.
    vendi_before, vendi_after: effective number of distinct particles, from 1 to n, around the M iterations. It is the
    Vendi score for the objective "entropy" and exp of the order-2 Rényi entropy for "renyi2"; the two agree at 1 and
    at n only. `vendi_after` is taken before the norms are restored.
    """

    tokens: Tensor
    vendi_before: float
    vendi_after: float


def vendi_score(vectors: Tensor) -> float:
    """Effective number of distinct vectors: exp of the entropy of their cosine Gram matrix over n (exp of eq. 4).

    vectors: (n, ...), any floating dtype, flattened per particle. Result: 1 (all parallel) to n (all orthogonal). Zero
    vectors have no direction and do not count; without any other vector the score is 1.
    Raises InputError for a wrong shape or dtype, RepulsionError for NaN or infinite values.
    """
    if vectors.ndim < 2 or not vectors.shape[0] or not vectors.is_floating_point():
        raise InputError(
            f"vectors is {_kind(vectors)}, but the Vendi score takes a floating-point tensor (n, ...) with n >= 1: "
            "stack one vector per particle along the first axis."
        )
    columns = vectors.detach().reshape(vectors.shape[0], -1, 1)  # (n, numbers, 1)
    return coefficients(inner_products([Part(columns)]), eta=0.0, iterations=1, objective="entropy", fixed=0)[1]


def repel(
    tokens: Tensor,
    *,
    strength: float | None = None,
    eta: float | None = None,
    iterations: int = 5,
    objective: Objective = "entropy",
    mask: Tensor | None = None,
    keep_norm: bool = True,
    fixed: int = 0,
) -> Step:
    """Push n particles apart in contextual space (eq. 2 to 4 of arXiv 2603.28762) and report the Vendi scores.

    tokens: (n, tokens, dim), any floating dtype and device; never changed in place. Where nothing moves (strength 0,
        one particle, everything fixed or masked), the very same tensor comes back.
    strength: step size without units, >= 0, with which a particle moves as far, beside its norm, for any n; of six
        particles it is eta / (3 mean_i |c_i|^2). See `step_of_one`. Give this or `eta`, not both.
    eta: the paper's raw step size, in squared units of the tokens, >= 0.
    iterations: M >= 1, the number of ascent steps that eta is divided among.
    objective: "entropy" is eq. 4; "renyi2" is -ln tr(rho^2), whose iterations need no eigendecomposition.
    mask: bool, (tokens,) or (n, tokens); True takes part. The others come out bit-identical and count as zero in c_i.
    keep_norm: scale each moved token back to the norm it had (a token of norm zero stays zero).
    fixed: the first `fixed` particles repel the others but stay bit-identical themselves, 0 to n.

    Sums are in float32 (float64 for tokens of that dtype), of the particles' differences, so that what they have in
    common takes no digits from what they differ in. Particles that are equal, or whose directions
    differ by less than about 3e-7, cannot be told apart and stay; one of norm zero neither moves nor repels.
    Returns the moved `tokens`, with `vendi_before` and `vendi_after` around the ascent.
    Raises InputError for arguments out of range, RepulsionError for NaN or infinite tokens or a step that overflows.
    """
    _check(tokens, strength, eta, iterations, objective, mask, fixed)
    part = Part.of(tokens, mask)
    (moved,), before, after = repel_parts(
        [part], strength=strength, eta=eta, iterations=iterations, objective=objective, keep_norm=keep_norm, fixed=fixed
    )
    return Step(moved, before, after)


def repel_parts(
    parts: Sequence[Part],
    *,
    strength: float | None,
    eta: float | None,
    iterations: int,
    objective: Objective,
    keep_norm: bool,
    fixed: int,
    gram: Matrix | None = None,
) -> Moved:
    """`repel` for particles whose tokens lie in several tensors: those of each, moved, and the scores around it.

    fixed: those that lie before the parts, which stay, counted. gram: their inner products, where they are known.
    """
    n = len(parts[0])
    still = [part.tokens for part in parts]
    if n == 1:
        return still, 1.0, 1.0
    with torch.no_grad():
        gram = inner_products(parts) if gram is None else gram  # (n, n)
        step = eta if eta is not None else (strength or 0.0) * step_of_one(gram)
        mix, before, after = coefficients(gram, eta=step, iterations=iterations, objective=objective, fixed=fixed)
        if np.array_equal(mix, np.eye(n)):
            return still, before, after
        return [mixed(part, mix, keep_norm=keep_norm, fixed=fixed) for part in parts], before, after


def step_of_one(gram: Matrix) -> float:
    """The eta of strength 1 for particles with these inner products, (n, n) float64.

    Of n particles whose cosines are all k, the gradient of eq. 4 is (2 / n) ln((1 + (n - 1) k) / (1 - k)) times how
    far a particle lies from the mean of all, which is sqrt((1 - k) (1 - 1 / n)). So eta is mean |c_i|^2 times n / 2,
    and times what the rest of this is for SIX particles over what it is for n, at their mean cosine.
    """
    norms = np.sqrt(gram.diagonal())  # (n,)
    alive = norms > NULL_NORM * norms.max()
    n = int(alive.sum())
    if n < 2:
        return 0.0
    unit = gram[np.ix_(alive, alive)] / np.outer(norms[alive], norms[alive])
    k = min(max((float(unit.sum()) - n) / (n * (n - 1)), NULL_COSINE), 1 - NULL_COSINE)
    slope = [math.log((1 + (m - 1) * k) / (1 - k)) * math.sqrt(1 - 1 / m) for m in (SIX, n)]
    return float(np.square(norms).mean()) * n / 2 * slope[0] / slope[1]


def coefficients(
    gram: Matrix, *, eta: float, iterations: int, objective: Objective, fixed: int
) -> tuple[Matrix, float, float]:
    """The M iterations of eq. 2 in Gram space: from X X^T to the C of X' = C X, and the scores around them.

    gram: (n, n) float64, the inner products of the particles. eta: raw step size, >= 0. iterations: M >= 1.
    fixed: the first particles, which repel but do not move. Returns C (n, n), score before, score after (see `Step`).
    Raises RepulsionError if `gram` is not finite or the iterates do not stay so.
    """
    n = len(gram)
    squared = gram.diagonal()  # (n,) |c_i|^2
    if not np.isfinite(gram).all():
        bad = np.flatnonzero(~np.isfinite(squared)).tolist()
        raise RepulsionError(
            f"The contextual tokens of particle(s) {bad or list(range(n))} of {n} hold NaN or infinite values, usually "
            "because the model overflowed in float16: run the pipeline in bfloat16 or float32."
        )
    alive = np.flatnonzero(squared > NULL_NORM**2 * squared.max())  # (m,) those that have a direction
    inner = gram[np.ix_(alive, alive)]  # (m, m)
    rates = np.where(alive >= fixed, 2.0 * eta / iterations, 0.0)  # (m,)
    mix = np.eye(n)
    if len(alive) < 2 or not rates.any():
        score = _score(inner, objective)
        return mix, score, score
    try:
        with np.errstate(all="ignore"):
            inner_mix, last, before = _ascend(inner, rates, iterations, objective)
            after = _score(last, objective)
        finite = bool(np.isfinite(inner_mix).all()) and math.isfinite(after)
    except np.linalg.LinAlgError:
        finite = False
    if not finite:
        raise RepulsionError(
            f"The repulsion step overflowed: eta={eta:.3g} over {iterations} iterations throws particles of mean "
            f"squared norm {squared.mean():.3g} beyond float64; lower the strength (or eta)."
        )
    mix[np.ix_(alive, alive)] = inner_mix
    return mix, before, after


def _ascend(gram: Matrix, rates: Matrix, iterations: int, objective: Objective) -> tuple[Matrix, Matrix, float]:
    """The loop itself: C, the Gram matrix at the end and the score at the start.

    It moves F, n points in at most n dimensions with the inner products of the particles; the Gram matrix of moved
    points can't lose its sign to rounding, as C S C^T would. With d_i = 1 / (|c_i| sqrt(n)) and rho = d F F^T d, the
    gradient at c_i / |c_i| is -(2 / n) sum_j A_ij c_j / |c_j|. Its part along c_i, which the sphere takes away, is
    n (A rho)_ii, so that F moves by -2 (eta / M) d (A - n diag(A rho)) d F.
    """
    n = len(gram)
    d = 1.0 / np.sqrt(n * gram.diagonal())  # (n,)
    at_first = np.linalg.eigh(gram * d[:, None] * d)
    values, vectors = at_first
    real = values > NULL_EIGENVALUE  # what lies below stays where it is
    root, vectors = np.sqrt(values[real]), vectors[:, real]  # (k,), (n, k)
    start = vectors * root / d[:, None]  # (n, k) F at first
    inverse = (vectors / root).T * d  # (k, n) inverse @ start = I
    F, before = start.copy(), 0.0
    for iteration in range(iterations):
        T = F @ F.T  # (n, n)
        d = 1.0 / np.sqrt(n * T.diagonal())  # (n,)
        scale = d[:, None] * d  # (n, n)
        rho = T * scale  # (n, n), trace 1
        A, score = _slope(rho, objective, None if iteration else at_first)  # (n, n)
        if iteration == 0:
            before = score
        diagonal = A.ravel()[:: n + 1]  # (n,) view of A
        diagonal -= n * np.einsum("ij,ij->i", A, rho)
        A *= scale
        A *= -rates[:, None]
        F += A @ F
    return np.eye(n) + (F - start) @ inverse, F @ F.T, before


def _slope(rho: Matrix, objective: Objective, spectrum: tuple[Matrix, Matrix] | None = None) -> tuple[Matrix, float]:
    """A with dL/dx_i = -(2 / n) sum_j A_ij x_j for unit x (a multiple of I changes nothing), and exp(L).

    spectrum: the eigenvalues and vectors of rho, where they are known.
    """
    n = len(rho)
    if objective == "renyi2":
        purity = float(np.vdot(rho, rho))
        return rho * (2.0 / purity), min(max(1.0 / purity, 1.0), float(n))
    values, vectors = spectrum or np.linalg.eigh(rho)  # (n,), (n, n)
    values = np.where(values < NULL_EIGENVALUE, 1.0, values)  # ln 1 = 0: no push where the particles do not differ
    logs = np.log(values)  # (n,)
    score = math.exp(-float(values @ logs))
    return (vectors * logs) @ vectors.T, min(max(score, 1.0), float(n))  # rounding may leave the range


def _score(gram: Matrix, objective: Objective) -> float:
    """exp(L) of particles with these inner products, none of them zero; 1 for fewer than two."""
    if len(gram) < 2:
        return 1.0
    d = 1.0 / np.sqrt(len(gram) * gram.diagonal())  # (n,)
    return _slope(gram * d[:, None] * d, objective)[1]


def _kind(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _check(
    tokens: Tensor,
    strength: float | None,
    eta: float | None,
    iterations: int,
    objective: str,
    mask: Tensor | None,
    fixed: int,
) -> None:
    """One clear InputError for the first argument that cannot be used."""
    if tokens.ndim != 3 or not len(tokens):
        raise InputError(f"tokens is {_kind(tokens)}, but repulsion takes (n, tokens, dim): one row per particle.")
    if not tokens.is_floating_point():
        raise InputError(f"tokens is {_kind(tokens)}, but only floating-point tokens can move: convert them first.")
    if (strength is None) == (eta is None):
        given = "neither" if eta is None else "both"
        raise InputError(f"The step size was given by {given} of strength and eta: give exactly one of them.")
    for name, size in (("strength", strength), ("eta", eta)):
        if size is not None and not 0 <= size < math.inf:
            raise InputError(f"{name} is {size}, but a step size is a finite number >= 0: 0 switches repulsion off.")
    if iterations < 1:
        raise InputError(f"iterations is {iterations}, but at least 1 is needed: strength=0 switches repulsion off.")
    if objective not in get_args(Objective):
        raise InputError(f"objective is {objective!r}, but must be one of {', '.join(get_args(Objective))}.")
    n, length, _ = tokens.shape
    if mask is not None and mask.dtype != torch.bool:
        raise InputError(f"mask is {_kind(mask)}, but must be bool, True for tokens that move: use mask.bool().")
    if mask is not None and mask.shape not in ((length,), (n, length)):
        raise InputError(f"mask is {_kind(mask)}, but these tokens need ({length},) or ({n}, {length}).")
    if not 0 <= fixed <= n:
        raise InputError(f"fixed is {fixed}, but counts particles that stay in place: 0 to {n} here.")
