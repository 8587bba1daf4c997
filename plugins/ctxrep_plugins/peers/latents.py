"""Methods that push the latents of the candidates apart."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from ctxrep_edit.contracts import Run, Strategy

if TYPE_CHECKING:
    import torch


class _Pushed(Strategy):
    """After each step moves the latents x_i by strength * d_sigma * n * sum_j w_ij (x_i - x_j).

    With weights 1 / n^2 and strength 1 each candidate goes d_sigma times its distance from the mean away from it, so
    that a strength means the same for any number and size of latents.
    """

    @abstractmethod
    def weights(self, distances: torch.Tensor) -> torch.Tensor:
        """w (n, n) from squared distances (n, n)."""

    def sample(self, run: Run) -> torch.Tensor:
        def push(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            latents = tensors["latents"]
            sigmas = pipe.scheduler.sigmas
            if run.n < 2 or step + 2 >= len(sigmas):  # the last step leaves no noise to hide a push
                return tensors
            x = latents.flatten(1).double()  # (n, numbers)
            w = self.weights(_squared(x))  # (n, n)
            moved = x * w.sum(1, keepdim=True) - w @ x
            size = run.settings.strength * float(sigmas[step] - sigmas[step + 1]) * run.n
            return {**tensors, "latents": (x + size * moved).to(latents.dtype).view_as(latents)}

        return run.call(after_step=push)


def _squared(x: torch.Tensor) -> torch.Tensor:
    """Squared distances between the rows: (n, n)."""
    import torch

    return torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist") ** 2


def _median(distances: torch.Tensor) -> float:
    """The median squared distance between two candidates."""
    import torch

    n = len(distances)
    return float(distances[~torch.eye(n, dtype=torch.bool, device=distances.device)].median().clamp_min(1e-12))


class ParticleGuidance(_Pushed):
    """Particle guidance in latent space (Corso et al. 2024, arXiv 2310.13102), with a fixed potential.

    It is the sum of the kernels exp(-|x_i - x_j|^2 / h), h being the median squared distance over ln n, as the authors
    take it.
    """

    name = "particle-guidance"
    summary = "particle guidance: latents repel by an RBF kernel after each step"

    def weights(self, distances: torch.Tensor) -> torch.Tensor:
        n = len(distances)
        kernel = (-distances * math.log(n) / _median(distances)).exp()  # (n, n)
        return kernel / n


class Sparke(_Pushed):
    """SPARKE (Jalali et al. 2025, arXiv 2506.10173): ascends the order-2 Rényi kernel entropy of the latents.

    For one instruction the conditional RKE is the plain one, -ln of the mean of k_ij^2, whose gradient weighs the
    pairs by k_ij^2 over the sum of all. k_ij is Gaussian with the median squared distance as its bandwidth.
    """

    name = "sparke"
    summary = "SPARKE: latents ascend their order-2 Rényi kernel entropy after each step"

    def weights(self, distances: torch.Tensor) -> torch.Tensor:
        squared = (-distances / _median(distances)).exp()  # (n, n) k_ij^2
        return squared / squared.sum()
