"""Methods that push the latents of the candidates apart."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from ctxrep_edit import Run, Strategy

if TYPE_CHECKING:
    import torch


class _Pushed(Strategy):
    """Moves the latents after each step but the last, which leaves no noise to hide a push."""

    @abstractmethod
    def pushed(self, x: torch.Tensor, strength: float, sigmas: torch.Tensor, step: int) -> torch.Tensor:
        """The latents (n, numbers) after the step from sigmas[step] to sigmas[step + 1], moved; n is at least 2."""

    def sample(self, run: Run) -> torch.Tensor:
        def push(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            latents, sigmas = tensors["latents"], pipe.scheduler.sigmas
            if run.n < 2 or step + 2 >= len(sigmas):
                return tensors
            x = self.pushed(latents.flatten(1).double(), run.settings.strength, sigmas, step)
            return {**tensors, "latents": x.to(latents.dtype).view_as(latents)}

        return run.call(after_step=push)


def _squared(x: torch.Tensor) -> torch.Tensor:
    """Squared distances between the rows: (n, n)."""
    import torch

    return torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist") ** 2


def _apart(x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """sum_j w_ij (x_i - x_j): (n, numbers)."""
    return x * weights.sum(1, keepdim=True) - weights @ x


class ParticleGuidance(_Pushed):
    """Particle guidance in latent space (Corso et al. 2024, arXiv 2310.13102), with a fixed potential.

    It is the sum of the kernels exp(-|x_i - x_j|^2 / h), h being the median squared distance over ln n, as the authors
    take it. With all kernels 1, strength 1 takes each candidate d_sigma times its distance from the mean away from it,
    so that a strength means the same for any number and size of latents.
    """

    name = "particle-guidance"
    summary = "particle guidance: latents repel by an RBF kernel after each step"

    def pushed(self, x: torch.Tensor, strength: float, sigmas: torch.Tensor, step: int) -> torch.Tensor:
        import torch

        n, distances = len(x), _squared(x)
        between = distances[~torch.eye(n, dtype=torch.bool, device=x.device)]
        kernel = (-distances * math.log(n) / between.median().clamp_min(1e-12)).exp()  # (n, n)
        return x + strength * float(sigmas[step] - sigmas[step + 1]) * _apart(x, kernel / n)


class Sparke(_Pushed):
    """SPARKE (Jalali et al. 2025, arXiv 2506.10173): ascends the order-2 Renyi kernel score of the latents.

    The score is 1 / mean of k_ij^2; for one instruction the conditional score is the plain one. As in the authors' code
    (github.com/mjalali/sparke-diffusers) k_ij is Gaussian, of bandwidth 0.6, over latents brought to length 1, the
    gradient of each candidate is brought to the length of its latents times the strength (theirs: 0.02 to 0.03), and
    this happens about six times a run. Theirs makes one picture after another, each away from those that are finished;
    here the candidates of a set form together and move away from one another.
    """

    name = "sparke"
    summary = "SPARKE: latents ascend their order-2 Renyi kernel score in some of the steps"
    strength = 0.03
    BANDWIDTH, TIMES = 0.6, 5  # every tenth of 51 steps, the first among them

    def pushed(self, x: torch.Tensor, strength: float, sigmas: torch.Tensor, step: int) -> torch.Tensor:
        if step % max(1, round((len(sigmas) - 1) / self.TIMES)):
            return x
        length = x.norm(dim=1, keepdim=True)  # (n, 1)
        u = x / length
        squared = (-_squared(u) / self.BANDWIDTH**2).exp()  # (n, n) k_ij^2
        uphill = _apart(u, squared)
        uphill = uphill - (uphill * u).sum(1, keepdim=True) * u  # as the length of x does not count
        return x + strength * length * uphill / uphill.norm(dim=1, keepdim=True).clamp_min(1e-12)
