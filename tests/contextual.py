"""Contextual tokens as the repulsion meets them, and how far two of them differ."""

from __future__ import annotations

import torch
from torch import Tensor


def particles(
    n: int, noise: float, seed: int = 0, length: int = 5, dim: int = 7, dtype: torch.dtype = torch.float64
) -> Tensor:
    """A common vector plus noise, as contextual tokens are: (n, length, dim)."""
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(1, length, dim, generator=generator, dtype=dtype)
    return common + noise * torch.randn(n, length, dim, generator=generator, dtype=dtype)  # (n, length, dim)


def error(got: Tensor, wanted: Tensor) -> float:
    """Relative to what is wanted."""
    return float((got.double() - wanted).norm() / wanted.norm())
