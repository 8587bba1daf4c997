"""Which setting is taken: the most spread among those whose losses stay inside plain sampling's interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from ctxrep_plugins.calibrate.measuring import Measured

Sets = Mapping[int, Measured]  # by the number of the task
DRAWS = 1000
SURE = 95  # percent
BROKEN = 0.5  # share of plain edits to which checks object, above which a model cannot be calibrated: it does not edit
LEAST = 6  # tasks on which a setting is measured before it can be taken: an interval of fewer says little
LOSSES = {  # what may be lost, with the sign by which more of it is worse
    "failed": ("edits that a check objects to", 1),
    "lpips": ("LPIPS outside the edit", 1),
    "following": ("following of the instruction", -1),
}


@dataclass(frozen=True)
class Loss:
    """The means of one kind, of the setting and of plain sampling on the same tasks, and the end of plain sampling's
    interval that it may not pass."""

    name: str
    value: float
    plain: float
    bound: float

    @property
    def inside(self) -> bool:
        sign = LOSSES[self.name][1]
        return sign * self.value <= sign * self.bound + 1e-12


@dataclass(frozen=True)
class Ruling:
    """What the rule says of a setting measured on these tasks.

    spread, plain: mean. gain: how many times plain's spread, with its interval by a bootstrap over the tasks, the same
    for both. cost: time over plain's. losses: those that could be measured.
    """

    tasks: int
    spread: float
    different: float
    plain: float
    gain: tuple[float, float, float]
    cost: float
    losses: tuple[Loss, ...]

    @property
    def over(self) -> list[Loss]:
        return [loss for loss in self.losses if not loss.inside]

    @property
    def admissible(self) -> bool:
        return not self.over

    @property
    def edits(self) -> bool:
        """Whether plain sampling edits at all, so that there is something to hold."""
        return all(loss.plain <= BROKEN for loss in self.losses if loss.name == "failed")

    @property
    def helps(self) -> bool:
        """Whether a model that edits surely spreads more with it, on enough tasks, and loses no more than it may."""
        return self.tasks >= LEAST and self.edits and self.admissible and self.gain[1] > 1

    @property
    def rank(self) -> tuple[bool, float]:
        """Greater is better. Of few tasks the spread counts alone: what is lost is not known yet."""
        if self.tasks < LEAST:
            return True, self.spread
        return self.admissible, self.spread if self.admissible else -sum(_excess(loss) for loss in self.over)


def ruling(plain: Sets, sets: Sets, seed: int = 0) -> Ruling:
    """Of a setting, on the tasks that it and plain sampling have both done."""
    common = sorted(plain.keys() & sets.keys())
    pairs = [(plain[task], sets[task]) for task in common]
    draws = np.random.default_rng(seed).integers(len(pairs), size=(DRAWS, len(pairs)))
    before, after = (np.array([one[i].spread for one in pairs]) for i in (0, 1))
    shares = _ratio(after[draws].mean(1), before[draws].mean(1))
    low, high = np.percentile(shares, _ends())
    gain = (float(_ratio(after.mean(), before.mean())), float(low), float(high))
    return Ruling(
        tasks=len(pairs),
        spread=float(after.mean()),
        different=float(np.mean([one.different for _, one in pairs])),
        plain=float(before.mean()),
        gain=gain,
        cost=sum(one.seconds for _, one in pairs) / max(1e-9, sum(one.seconds for one, _ in pairs)),
        losses=tuple(loss for name in LOSSES if (loss := _loss(name, pairs, draws)) is not None),
    )


def best(rulings: Mapping[str, Ruling]) -> str | None:
    """The setting that is taken; None: none helps."""
    helping = {key: one for key, one in rulings.items() if one.helps}
    return max(helping, key=lambda key: helping[key].spread) if helping else None


def _loss(name: str, pairs: Sequence[tuple[Measured, Measured]], draws: npt.NDArray[Any]) -> Loss | None:
    values = np.array([[getattr(one, name) for one in pair] for pair in pairs], float)  # (pairs, 2); None becomes nan
    known = ~np.isnan(values).any(1)  # only where both could be measured
    if not known.any():
        return None
    counts, sums = known[draws].sum(1), np.where(known, values[:, 0], 0)[draws].sum(1)  # (draws,)
    low, high = np.percentile(sums[counts > 0] / counts[counts > 0], _ends())
    plain, value = values[known].mean(0)
    return Loss(name, float(value), float(plain), float(high if LOSSES[name][1] > 0 else low))


def _excess(loss: Loss) -> float:
    """By how much a loss is beyond its bound, in shares of plain's."""
    return abs(loss.value - loss.bound) / max(abs(loss.plain), 1e-3)


def _ratio(after: Any, before: Any) -> Any:
    """Where plain sampling has nothing faithful at all there is no ratio: 0, which helps nobody."""
    return np.where(before > 0, after / np.maximum(before, 1e-9), 0.0)


def _ends() -> list[float]:
    return [(100 - SURE) / 2, (100 + SURE) / 2]
