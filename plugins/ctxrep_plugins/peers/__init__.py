"""Other methods for different answers, written from their papers so that all can be compared on one bench.

Each is a strategy: `diverse_edit(..., strategy="cads", strength=0.2)`, `ctxrep-edit bench spread`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ctxrep_edit import Strategy, hookimpl

if TYPE_CHECKING:
    import torch

ctxrep_api = "1.0"
ANOTHER_STREAM = 2**40  # added to a candidate's seed: its latents' noise comes from the seed itself


def noise(seeds: Iterable[int], shape: tuple[int, ...], like: torch.Tensor, step: int = 0) -> torch.Tensor:
    """Normal noise (n, *shape), row i from seed i and the step, in dtype and device of `like`."""
    import torch

    rows = []
    for seed in seeds:
        generator = torch.Generator().manual_seed((seed + ANOTHER_STREAM * (step + 1)) % 2**63)
        rows.append(torch.randn(shape, generator=generator))
    return torch.stack(rows).to(like)


@hookimpl
def ctxrep_strategies() -> Iterable[Strategy]:
    from ctxrep_plugins.peers.conditioning import Cads, PromptNoise
    from ctxrep_plugins.peers.features import Dave
    from ctxrep_plugins.peers.group import GroupInference
    from ctxrep_plugins.peers.latents import ParticleGuidance, Sparke

    return [PromptNoise(), Cads(), ParticleGuidance(), Sparke(), Dave(), GroupInference()]
