"""What the repulsion does, as plain values."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from typing import Any, Literal, TypeGuard

from ctxrep_edit.errors import InputError

UNSAID: Any = None
"""What a field of `Repulsion` holds where nothing is said of it."""

ROUNDING = 1e-5
"""Of the window: a step that starts so near to its end, by sigmas of float32, is none of it."""

_SHARES = {
    "churn": "a moved particle's noise that is drawn anew in each step after the window",
    "hold": "the noise that goes while the transformer's answer to a moved particle holds",
}
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
    strength: step size without units, per pass of the transformer, >= 0; 0 attaches nothing at all. It is shared out
        over the hooked blocks, and of n particles in each of B blocks eta = (n / 2) strength / B mean |c_i|^2, so that
        it means the same for any depth, choice of blocks and n.
    eta: the paper's raw step size, in each block, >= 0; replaces `strength` where given.
    window: how much of the noise goes while the particles repel, > 0 and up to 1: from sigma_0, at which the run
        starts, down to (1 - window) sigma_0. It means the same for any number of steps and any shift of them.
    steps: tau, the number of first timesteps in which the particles repel, >= 1; replaces `window` where given.
    schedule: whether the step size is the same all along ("constant", as in the paper), or falls ("linear"): over the
        window from 1 to 0 times the strength, in each timestep by its mean over what that step takes away; with
        `steps`, in step k = 0 ... tau - 1 it is 1 - k / tau of the strength.
    iterations: M >= 1, ascent steps per block.
    objective: "entropy" (eq. 4 of arXiv 2603.28762) or "renyi2" (no eigendecomposition).
    keep_norm: whether each token keeps its norm.
    guidance: under classifier-free guidance, repel the "conditional" half alone or "both".
    anchor: whether the first particle stays where it is and only repels the others, so that the first edit is the
        one that the model would have given anyway.
    oversample: how many times as many candidates start as edits are wanted, >= 1; after the window those that differ
        most go on, the anchor among them. With 1 all that start go on.
    hold: how much of the noise goes, in the window, while the transformer's answer to the particles that are moved
        holds and it is not asked anew, 0 to 1; with 0 it is asked in each step. Not with `steps`.
    churn: how much of the noise of the particles that were moved is drawn anew in each step from the second behind the
        window on, or the first with 0.7 of it left at most, while half of it is left, 0 to 1; with 0 none, with 1 all,
        as by the stochastic sampler of flows.
    """

    scope: str | None = None
    strength: float = UNSAID
    eta: float | None = None
    window: float = UNSAID
    steps: int | None = None
    schedule: Literal["constant", "linear"] = UNSAID
    iterations: int = UNSAID
    objective: Literal["entropy", "renyi2"] = UNSAID
    keep_norm: bool = UNSAID
    guidance: Literal["conditional", "both"] = UNSAID
    anchor: bool = UNSAID
    oversample: int = UNSAID
    churn: float = UNSAID
    hold: float = UNSAID

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
        if self.window is not None:
            if not (is_number(self.window) and 0 < self.window <= 1):
                raise InputError(
                    f"window is {self.window!r}, but must be a number above 0 and up to 1: the share of the noise "
                    "range, from its start, in which particles repel."
                )
            object.__setattr__(self, "window", float(self.window))
        for name, meaning in _SHARES.items():
            value = getattr(self, name)
            if value is None:
                continue
            if not (is_number(value) and 0 <= value <= 1):
                raise InputError(f"{name} is {value!r}, but must be a number from 0 to 1: the share of {meaning}.")
            object.__setattr__(self, name, float(value))
        if self.hold and self.steps is not None:
            raise InputError(
                f"hold is {self.hold:g} beside steps={self.steps!r}, in each of which the transformer is asked: "
                "leave one of them out."
            )
        for name in ("steps", "iterations", "oversample"):
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

    def share(self, step: int, noise: tuple[float, float] = (1.0, 0.0)) -> float:
        """Of the step size, in one timestep: 1 to 0, and 0 outside of the window.

        step: its number, from 0. noise: what it starts with and ends with, in shares of what the run starts with; where
        `steps` says when particles repel, it does not matter.
        """
        if self.steps is not None:
            if step >= self.steps:
                return 0.0
            return 1.0 if self.schedule == "constant" else 1 - step / self.steps
        first, last = (max(0.0, 1 - (1 - level) / self.window) for level in noise)  # 1 at the start, 0 from the end on
        if first < ROUNDING:
            return 0.0
        area = first - last if self.schedule == "constant" else (first**2 - last**2) / 2
        return self.window * area / (noise[0] - noise[1])


BASE = Repulsion(
    strength=1.0, window=0.1, schedule="constant", iterations=5, objective="entropy", keep_norm=True,
    guidance="conditional", anchor=False, oversample=1, churn=0.0, hold=0.0,
)  # fmt: skip
"""What holds where neither the caller nor the model nor its family says anything."""


def completed(settings: Repulsion, *defaults: Repulsion) -> Repulsion:
    """`settings` with what it leaves out taken from the first of `defaults` that says it; `strength` replaces their
    `eta` and `window` their `steps`, as they are other ways to say the same, and `steps` their `hold`."""
    for default in (*defaults, BASE):
        if settings.steps is not None and settings.hold is None:
            settings = replace(settings, hold=0.0)
        said = {f.name: getattr(default, f.name) for f in fields(Repulsion) if getattr(settings, f.name) is None}
        for name, other in (("strength", "eta"), ("window", "steps")):
            if getattr(settings, name) is not None:
                said.pop(other, None)
        settings = replace(settings, **said)
    return settings
