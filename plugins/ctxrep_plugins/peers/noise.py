"""Noise that follows from the candidates' seeds, beside that of their latents."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

ANOTHER_STREAM = 2**40  # added to a candidate's seed: its latents' noise comes from the seed itself


def noise(seeds: Iterable[int], shape: tuple[int, ...], like: torch.Tensor, step: int = 0) -> torch.Tensor:
    """Normal noise (n, *shape), row i from seed i and the step, in dtype and device of `like`."""
    import torch

    rows = []
    for seed in seeds:
        generator = torch.Generator().manual_seed((seed + ANOTHER_STREAM * (step + 1)) % 2**63)
        rows.append(torch.randn(shape, generator=generator, device="cpu"))
    return torch.stack(rows).to(like)
