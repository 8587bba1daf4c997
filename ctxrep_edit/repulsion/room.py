"""Where tokens that leave a GPU lie on the host: in locked pages, of which and to which copies go without a detour.

Locking pages takes thirty times as long as copying to them, and as long as some blocks of a large transformer. So it is
done for many tokens at once, and ahead: a thread locks the next piece while the device computes.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

LARGEST = 2**27
"""Bytes of a piece, at most: powers of two, as torch takes locked pages in those."""
ALIGNED = 64
"""Bytes; tokens begin at multiples of it."""


class Room:
    """Holds the tokens of one particle, which are given up together: pieces are free again when none of them lives."""

    def __init__(self) -> None:
        self._piece = torch.empty(0, dtype=torch.uint8, device="cpu")
        self._used = 0
        self._next: Future[Tensor] | None = None

    def copy(self, tokens: Tensor) -> Tensor:
        """The same, of any shape and dtype, on the host."""
        size = tokens.numel() * tokens.element_size()
        if self._used + size > len(self._piece):
            self._begin(size)
        place = self._piece[self._used : self._used + size]
        self._used += -(-size // ALIGNED) * ALIGNED
        return place.view(tokens.dtype).view(tokens.shape).copy_(tokens)

    def _begin(self, size: int) -> None:
        """Goes on in another piece, which has place for so many bytes; small ones come first, as some need few."""
        piece = self._next.result() if self._next else self._piece
        if len(piece) < size:
            piece = locked(1 << (size - 1).bit_length())
        self._piece, self._used = piece, 0
        self._next = _ahead(min(LARGEST, 2 * len(piece)))


def locked(size: int) -> Tensor:
    """So many bytes of the host, uint8 (size,)."""
    return torch.empty(size, dtype=torch.uint8, device="cpu", pin_memory=True)


def _ahead(size: int) -> Future[Tensor]:
    thread = ThreadPoolExecutor(1, "ctxrep-room")
    made = thread.submit(locked, size)
    thread.shutdown(wait=False)
    return made
