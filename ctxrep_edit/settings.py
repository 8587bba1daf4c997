"""What the repulsion does, as plain values."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from typing import Any, Literal, TypeGuard

from ctxrep_edit.errors import InputError

UNSAID: Any = None
"""What a field of `Repulsion` holds where nothing is said of it."""

_CHOICES = {
    "schedule": ("constant", "linear"),
    "objective": ("entropy", "renyi2"),
    "guidance": ("conditional", "both"),
}


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a real number, of numpy too; True and False are none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def is_count(value: object) -> TypeGuard[int]:
    """Whether it is a whole number, at least 1; True is none."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1


@dataclass(frozen=True)
class Repulsion:
    """Settings of the repulsion. A field that is left out, or None, means what the model states, or its family.

    scope: a name among the adapter's scopes: which tokens of which blocks are repelled.
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
    strength: float = UNSAID
    eta: float | None = None
    steps: int = UNSAID
    schedule: Literal["constant", "linear"] = UNSAID
    iterations: int = UNSAID
    objective: Literal["entropy", "renyi2"] = UNSAID
    keep_norm: bool = UNSAID
    guidance: Literal["conditional", "both"] = UNSAID
    anchor: bool = UNSAID

    def __post_init__(self) -> None:
        for name in ("strength", "eta"):
            value = getattr(self, name)
            if value is None:
                continue
            try:
                number = float(value) if is_number(value) else math.nan  # numpy's numbers, too, end in reports
            except OverflowError:
                number = math.inf
            if not 0 <= number < math.inf:
                raise InputError(f"{name} is {value!r}, but must be a finite number >= 0; 0 switches repulsion off.")
            object.__setattr__(self, name, number)
        for name in ("steps", "iterations"):
            value = getattr(self, name)
            if value is None:
                continue
            if not is_count(value):
                raise InputError(f"{name} of the repulsion is {value!r}, but must be a whole number >= 1.")
            object.__setattr__(self, name, int(value))
        for name, known in _CHOICES.items():
            if getattr(self, name) not in (None, *known):
                raise InputError(f"{name} is {getattr(self, name)!r}, but must be one of {', '.join(known)}.")
        for name in ("keep_norm", "anchor"):
            if getattr(self, name) not in (None, True, False):
                raise InputError(f"{name} is {getattr(self, name)!r}, but must be True or False.")

    @property
    def active(self) -> bool:
        return ((self.strength or 0.0) if self.eta is None else self.eta) > 0

    def share(self, step: int) -> float:
        """Of the step size, in timestep number `step`, from 0: 1 to 0, and 0 from tau on."""
        if step >= self.steps:
            return 0.0
        return 1.0 if self.schedule == "constant" else 1 - step / self.steps


BASE = Repulsion(
    strength=1.0, steps=1, schedule="constant", iterations=5, objective="entropy", keep_norm=True,
    guidance="conditional", anchor=False,
)  # fmt: skip
"""What holds where neither the caller nor the model nor its family says anything."""


def completed(settings: Repulsion, *defaults: Repulsion) -> Repulsion:
    """`settings` with what it leaves out taken from the first of `defaults` that says it; `strength` replaces their
    `eta`, as it is the other way to say the same."""
    for default in (*defaults, BASE):
        said = {f.name: getattr(default, f.name) for f in fields(Repulsion) if getattr(settings, f.name) is None}
        if settings.strength is not None:
            said.pop("eta", None)
        settings = replace(settings, **said)
    return settings
