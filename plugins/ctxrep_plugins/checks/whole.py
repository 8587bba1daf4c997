"""What should not be in an edit of the whole picture: parts treated otherwise than the rest, and noise.

In such an edit everything has changed, and it has no outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from ctxrep_plugins.checks.verdicts import not_asked, where

from ctxrep_edit import Case, Check, Verdict

WORST_MOST = 0.10  # root mean square of what the worst window of an edit of the whole picture leaves unexplained
GRAIN_MOST = 0.022  # the same of its typical pixel
OTHERS = 2.0  # times that of the set's median edit, where that is more


class _Whole(Check):
    """Takes an edit of the whole picture as one local operation, the same everywhere; see `Evidence.unexplained`."""

    def _verdicts(self, case: Case, measure: str, values: Sequence[float], most: float, told: str) -> list[Verdict]:
        """One each; an edit may leave more unexplained than `most` where most of its set do."""
        seen = case.evidence
        verdicts = []
        for i, value in enumerate(values):
            others = [*values[:i], *values[i + 1 :]]
            bound = max(most, OTHERS * median(others)) if others else most
            kept = value <= bound
            reason = f"{value:.3f} of {told} is not what the rest makes of the source, "
            reason += f"{'within' if kept else 'over'} {bound:.3f}"
            verdicts.append(Verdict(kept, measure, value, bound, reason, where(seen, i)))
        return verdicts


class Uniformity(_Whole):
    """Whether an edit of the whole picture treats all of it alike: an object moved or missing is treated otherwise."""

    name = "uniformity"
    summary = "what one operation on the whole picture leaves unexplained in the worst part of it"

    def verdicts(self, case: Case) -> Sequence[Verdict]:
        import torch.nn.functional as F

        if case.evidence.where != "whole":
            return not_asked(case.evidence, "unexplained in the worst part", WORST_MOST)
        errors = case.evidence.unexplained  # (n, h, w)
        side = max(1, min(*errors.shape[1:], round(0.14 * min(errors.shape[1:]))))
        worst = F.avg_pool2d(errors.square()[:, None], side, 1).amax((1, 2, 3)).sqrt()  # (n,)
        told = "the worst part"
        return self._verdicts(case, "unexplained in the worst part", worst.tolist(), WORST_MOST, told)


class Grain(_Whole):
    """Whether an edit of the whole picture has become noisy."""

    name = "grain"
    summary = "what one operation on the whole picture leaves unexplained in its typical pixel"

    def verdicts(self, case: Case) -> Sequence[Verdict]:
        if case.evidence.where != "whole":
            return not_asked(case.evidence, "unexplained in a typical pixel", GRAIN_MOST)
        typical = case.evidence.unexplained.flatten(1).median(1).values  # (n,)
        return self._verdicts(case, "unexplained in a typical pixel", typical.tolist(), GRAIN_MOST, "a typical pixel")
