"""Particles that are spread over the ranks of torch.distributed: what each has of them crosses over piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ctxrep_edit.errors import InputError, RepulsionError
from ctxrep_edit.repulsion.tokens import Part


@dataclass
class Ranks:
    """The ranks of a group, each with as many particles as `counts` says, numbered in the order of the ranks.

    group: of torch.distributed. rank: this one's number in it. counts: of particles. crossed: whether any tokens did.
    """

    group: Any
    rank: int
    counts: list[int]
    crossed: bool = field(default=False, init=False)

    @classmethod
    def of(cls, group: Any, particles: int) -> Ranks:
        """particles: of this rank; every rank of the group calls this. Raises InputError for what is no group."""
        if not dist.is_available() or not dist.is_initialized() or dist.get_rank(group) < 0:
            raise InputError(
                f"group is {group!r}, but must be a group of torch.distributed with this process in it: call "
                "torch.distributed.init_process_group, and give torch.distributed.group.WORLD."
            )
        ranks = cls(group, dist.get_rank(group), [])
        ranks.counts = ranks.told(particles)
        return ranks

    @property
    def first(self) -> int:
        """How many particles the ranks before this one have."""
        return sum(self.counts[: self.rank])

    def told(self, value: Any) -> list[Any]:
        """What each rank says, in their order; any picklable value."""
        heard: list[Any] = [None] * dist.get_world_size(self.group)
        with _together():
            dist.all_gather_object(heard, value, group=self.group)
        return heard

    def agree(self, value: Any) -> None:
        """Raises InputError where not all ranks say the same."""
        if len({repr(said) for said in self.told(value)}) > 1:
            raise InputError("The ranks were asked for different things: give all the same picture, words and options.")

    def gathered(self, own: Tensor) -> Tensor:
        """The rows of all ranks, (n, ...), of this rank's, (counts[rank], ...)."""
        self.crossed = True
        most = max(self.counts)
        sent = own.new_zeros(most, *own.shape[1:])
        sent[: len(own)] = own
        flat = sent.view(torch.uint8)  # whatever the dtype, any backend carries it
        received = [torch.empty_like(flat) for _ in self.counts]
        with _together():
            dist.all_gather(received, flat, group=self.group)
        rows = [some.view(own.dtype)[:count] for some, count in zip(received, self.counts, strict=True)]
        return torch.cat(rows)


@dataclass(frozen=True)
class Shared(Part):
    """The tokens of this rank's particles, among those of all ranks."""

    ranks: Ranks = field(kw_only=True)

    def __len__(self) -> int:
        return sum(self.ranks.counts)

    @property
    def first(self) -> int:
        return self.ranks.first

    def of_all(self, block: Tensor) -> Tensor:
        return self.ranks.gathered(block)


@contextmanager
def _together() -> Iterator[None]:
    """In it the ranks do one thing together; where another is gone or silent, that is said."""
    try:
        yield
    except RuntimeError as error:
        raise RepulsionError(
            f"Another rank has ended, or did not answer within the time-out of the group ({_line(error)}), so that the "
            "particles here have nothing to be repelled from: mend what ended it, and start all ranks anew."
        ) from error


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
