"""Where tokens that leave a GPU lie on the host: in locked pages, of which and to which copies go without a detour.

Locking pages takes thirty times as long as copying to them, and all calls of CUDA wait meanwhile, in other threads too.
So tokens share pieces, as torch takes locked pages in powers of two; it keeps what is given up for the next set.
"""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST = 2**27
"""Bytes of a piece that tokens share, at most."""
SHARING = 4
"""Tokens that have place in a piece, where it is no larger than that; five of FLUX.1 Kontext at 1024 x 1024 pixels."""
ALIGNED = 64
"""Bytes; tokens begin at multiples of it."""


class Room:
    """Holds the tokens of one particle, which are given up together: pieces are free again when none of them lives."""

    def __init__(self) -> None:
        self._piece = torch.empty(0, dtype=torch.uint8, device="cpu")
        self._used = 0

    def copy(self, tokens: Tensor) -> Tensor:
        """The same, of any shape and dtype, on the host; it is there when the device has done what it was asked for."""
        size = tokens.numel() * tokens.element_size()
        if self._used + size > len(self._piece):
            least = 1 << (size - 1).bit_length()
            self._piece, self._used = locked(max(least, min(LARGEST, SHARING * least))), 0
        place = self._piece[self._used : self._used + size]
        self._used += -(-size // ALIGNED) * ALIGNED
        return place.view(tokens.dtype).view(tokens.shape).copy_(tokens, non_blocking=True)


def locked(size: int) -> Tensor:
    """So many bytes of the host, uint8 (size,)."""
    return torch.empty(size, dtype=torch.uint8, device="cpu", pin_memory=True)
