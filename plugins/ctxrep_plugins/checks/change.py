"""Whether anything happened where it was asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ctxrep_plugins.checks.verdicts import where

from ctxrep_edit import Case, Check, Verdict

if TYPE_CHECKING:
    from torch import Tensor

    from ctxrep_edit import Evidence

CHANGE_LEAST = 0.05  # difference of the colours, in [0, 1], averaged over the 3 x 3 pixels that changed most
PLAIN = 0.1  # the same, from which no re-encoding differs


class Change(Check):
    """Whether the edit differs from an untouched source: within the mask where there is one, else anywhere.

    It is measured before the source is put back outside the region, so that restoring neither hides a change nor makes
    one. What differs no more than re-encoding does in such texture counts as 0: see `Evidence.changed`.
    """

    name = "change"
    summary = "whether anything changed where it was asked: within the mask, else anywhere"

    def verdicts(self, case: Case) -> Sequence[Verdict]:
        seen = case.evidence
        asked = _small(seen, seen.regions if seen.where == "mask" else seen.seen)  # (n, h', w')
        asked &= seen.changed | (seen.changes > PLAIN)
        place = "within the mask" if seen.where == "mask" else "in the picture"
        verdicts = []
        for i, value in enumerate((seen.changes * asked).amax((1, 2)).tolist()):
            kept = value >= CHANGE_LEAST
            how = "at least" if kept else "below"
            reason = f"the most changed place {place} differs by {value:.3f}, {how} {CHANGE_LEAST:.2f}"
            reason += "" if kept else ": nothing was done"
            verdicts.append(Verdict(kept, "largest change", value, CHANGE_LEAST, reason, where(seen, i), "empty"))
        return verdicts


def _small(seen: Evidence, there: Tensor) -> Tensor:
    """bool (n, h, w) at the size of `Evidence.changes`: True where any of it is."""
    from ctxrep_edit import brought_down

    return brought_down(there[:, None].float(), seen.scale)[:, 0] > 0
