"""Whether anything happened where it was asked."""

from __future__ import annotations

from collections.abc import Sequence

from ctxrep_plugins.checks.verdicts import where

from ctxrep_edit import Case, Check, Verdict

CHANGE_LEAST = 0.05  # difference of the colours, in [0, 1], averaged over the 3 x 3 pixels that changed most


class Change(Check):
    """Whether the edit differs from an untouched source: within the mask where there is one, else anywhere.

    It is measured before the source is put back outside the region, so that restoring neither hides a change nor makes
    one. Without a known autoencoder its loss counts as change.
    """

    name = "change"
    summary = "whether anything changed where it was asked: within the mask, else anywhere"

    def verdicts(self, case: Case) -> Sequence[Verdict]:
        seen = case.evidence
        asked = seen.regions if seen.where == "mask" else seen.seen  # (n, h, w)
        place = "within the mask" if seen.where == "mask" else "in the picture"
        verdicts = []
        for i, value in enumerate((seen.changes * asked).amax((1, 2)).tolist()):
            kept = value >= CHANGE_LEAST
            reason = f"the most changed place {place} differs by {value:.3f}, "
            reason += f"{'at least' if kept else 'below'} {CHANGE_LEAST:.2f}" + ("" if kept else ": nothing was done")
            verdicts.append(Verdict(kept, "largest change", value, CHANGE_LEAST, reason, where(seen, i)))
        return verdicts
