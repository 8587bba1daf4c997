"""What a check is shown: the source, the edits, and what is known of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from ctxrep_edit.faithfulness.evidence import Evidence, Register
    from ctxrep_edit.faithfulness.frames import Frame


@dataclass
class Case:
    """What a check judges.

    source: (1, 3, h, w). edits: (n, 3, h, w). mask: bool (h, w), True where the caller allowed the edit; None: not
    said. instruction: in words. first_is_plain: whether the first edit is the one that the model gives unmoved.
    round_trip: makes (1, 3, h, w), the source through the pipeline's autoencoder, which no edit can beat. realign:
    whether edits that came back shifted or zoomed are moved back before they are returned. restore: whether they get
    the source's own pixels back outside their region; that moves them back too. frames: of pictures that were given,
    how each of them lay on the source, which is undone; empty for a pipeline's. worded: where each candidate of the set
    is asked for in words of its own, these; `instructions` has those of the edits at hand.
    """

    source: torch.Tensor
    edits: torch.Tensor
    mask: torch.Tensor | None
    instruction: str
    first_is_plain: bool
    round_trip: Callable[[], torch.Tensor]
    realign: bool = False
    restore: bool = False
    frames: Sequence[Frame] = ()
    worded: Sequence[str] = ()

    _register: Register | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def instructions(self) -> list[str]:
        """What each edit is asked for: of most sets the instruction, n times."""
        n = len(self.edits)
        return [*self.worded[:n]] or [self.instruction] * n

    @cached_property
    def evidence(self) -> Evidence:
        """The edits moved back onto the source, and where each was edited: found once, for all checks."""
        import torch

        from ctxrep_edit.faithfulness.evidence import Register, gather

        self._register = self._register or Register(self.source, self.round_trip(), self.mask)
        h, w = self.edits.shape[2:]
        shown = torch.stack([frame.shown(h, w) for frame in self.frames]) if self.frames else None
        return gather(self._register, self.edits, self.mask, shown, restore=self.restore)


def remade(case: Case, edits: torch.Tensor, again: Sequence[int]) -> Case:
    """The same case with other edits, (n, 3, h, w), of which only those numbered `again` are new."""
    other = replace(case, edits=edits)
    other._register = None if case._register is None else case._register.without(again)
    return other
