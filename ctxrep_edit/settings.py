"""What the repulsion does, as plain values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Literal

from ctxrep_edit.errors import InputError

_CHOICES = {
    "schedule": ("constant", "linear"),
    "objective": ("entropy", "renyi2"),
    "guidance": ("conditional", "both"),
}


@dataclass(frozen=True)
class Repulsion:
    """Settings of the repulsion; an adapter or a model's profile states the defaults of its family.

    scope: a name among the adapter's scopes: which tokens of which blocks are repelled. None takes the default.
    strength: step size without units, eta / mean |c_i|^2, >= 0; 0 attaches nothing at all.
    eta: the paper's raw step size, >= 0; replaces `strength` where given.
    steps: tau, the number of first timesteps in which the particles repel, >= 1.
    schedule: whether the step size is the same in all of these ("constant", as in the paper), or falls ("linear"): in
        step k = 0 ... tau - 1 it is 1 - k / tau of the first.
    iterations: M >= 1, ascent steps per block.
    objective: "entropy" (eq. 4 of arXiv 2603.28762) or "renyi2" (no eigendecomposition).
    keep_norm: whether each token keeps its norm.
    guidance: under classifier-free guidance, repel the "conditional" half alone or "both".
    anchor: whether the first particle stays where it is and only repels the others, so that the first edit is the
        one that the model would have given anyway.
    """

    scope: str | None = None
    strength: float = 1.0
    eta: float | None = None
    steps: int = 1
    schedule: Literal["constant", "linear"] = "constant"
    iterations: int = 50
    objective: Literal["entropy", "renyi2"] = "entropy"
    keep_norm: bool = True
    guidance: Literal["conditional", "both"] = "conditional"
    anchor: bool = False

    def __post_init__(self) -> None:
        for name in ("strength", "eta"):
            value = getattr(self, name)
            if name == "eta" and value is None:
                continue
            try:
                number = float(value) if isinstance(value, Real) else math.nan  # numpy's numbers, too, end in reports
            except OverflowError:
                number = math.inf
            if not 0 <= number < math.inf:
                raise InputError(f"{name} is {value!r}, but must be a finite number >= 0; 0 switches repulsion off.")
            object.__setattr__(self, name, number)
        for name in ("steps", "iterations"):
            value = getattr(self, name)
            if not isinstance(value, Integral) or value < 1:
                raise InputError(f"{name} of the repulsion is {value!r}, but must be a whole number >= 1.")
            object.__setattr__(self, name, int(value))
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise InputError(f"{name} is {getattr(self, name)!r}, but must be one of {', '.join(known)}.")

    @property
    def active(self) -> bool:
        return (self.strength if self.eta is None else self.eta) > 0

    def share(self, step: int) -> float:
        """Of the step size, in timestep number `step`, from 0: 1 to 0, and 0 from tau on."""
        if step >= self.steps:
            return 0.0
        return 1.0 if self.schedule == "constant" else 1 - step / self.steps
