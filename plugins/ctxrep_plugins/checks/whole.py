"""What should not be in an edit of the whole picture: parts treated otherwise than the rest, and noise.

In such an edit everything has changed, and it has no outside.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, ClassVar

from ctxrep_plugins.checks.verdicts import NOT_WHOLE, where

from ctxrep_edit import Case, Check, Verdict

if TYPE_CHECKING:
    from torch import Tensor

WORST_MOST = 0.10  # root mean square of what the worst window of an edit of the whole picture leaves unexplained
GRAIN_MOST = 0.022  # the same of its typical pixel
OTHERS = 2.0  # times that of the set's median edit, where that is more


class _Whole(Check):
    """Takes an edit of the whole picture as one local operation, the same everywhere; see `Evidence.unexplained`.

    An edit may leave more unexplained than `most` where most of its set do.
    """

    most: ClassVar[float]
    told: ClassVar[str]
    """Of what part of the picture it is measured."""

    @abstractmethod
    def _values(self, errors: Tensor) -> list[float]:
        """The number of each edit, from what each pixel leaves unexplained, (n, h, w)."""

    def verdicts(self, case: Case) -> Sequence[Verdict]:
        seen, measure = case.evidence, f"unexplained in {self.told}"
        if seen.where != "whole":
            return [Verdict.not_asked(measure, NOT_WHOLE, where(seen, i)) for i in range(len(seen.edits))]
        values, verdicts = self._values(seen.unexplained), []
        for i, value in enumerate(values):
            others = [*values[:i], *values[i + 1 :]]
            bound = max(self.most, OTHERS * median(others)) if others else self.most
            kept = value <= bound
            reason = f"{value:.3f} of {self.told} is not what the rest makes of the source, "
            reason += f"{'within' if kept else 'over'} {bound:.3f}"
            verdicts.append(Verdict(kept, measure, value, bound, reason, where(seen, i)))
        return verdicts


class Uniformity(_Whole):
    """Whether an edit of the whole picture treats all of it alike: an object moved or missing is treated otherwise."""

    name = "uniformity"
    summary = "what one operation on the whole picture leaves unexplained in the worst part of it"

    most = WORST_MOST
    told = "the worst part"

    def _values(self, errors: Tensor) -> list[float]:
        import torch.nn.functional as F

        side = max(1, min(*errors.shape[1:], round(0.14 * min(errors.shape[1:]))))
        worst: list[float] = F.avg_pool2d(errors.square()[:, None], side, 1).amax((1, 2, 3)).sqrt().tolist()
        return worst


class Grain(_Whole):
    """Whether an edit of the whole picture has become noisy."""

    name = "grain"
    summary = "what one operation on the whole picture leaves unexplained in its typical pixel"

    most = GRAIN_MOST
    told = "a typical pixel"

    def _values(self, errors: Tensor) -> list[float]:
        typical: list[float] = errors.flatten(1).median(1).values.tolist()
        return typical
