"""What is compared: strategies at a strength, and contextual repulsion in its scopes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ctxrep_edit import STRATEGIES, InputError, Repulsion, adapter_for, default_settings

SWEEP: dict[str, tuple[float, ...]] = {  # strengths to try of each method, from little effect to too much
    "prompt-noise": (3.0, 10.0, 30.0),
    "cads": (0.1, 0.3, 1.0),
    "particle-guidance": (2.0, 5.0, 10.0),
    "sparke": (0.03, 0.06, 0.12),
    "dave": (0.3, 0.6, 1.0),
    "feature-self-guidance": (0.05, 0.15, 0.5),
    "group-inference": (1.0, 10.0),
}
AROUND = (0.5, 1.0, 2.0)  # the same of one that repels, times the strength of the settings in force


@dataclass(frozen=True)
class Method:
    """One row of the table. strength: None is the strategy's own. repulsion: for `contextual`, all its settings.
    batch: how many candidates are made at once; None: all. again: whether repeats are made again. variant: how what
    was named is written, such as "*2/paper@3"."""

    strategy: str
    strength: float | None = None
    repulsion: Repulsion | None = None
    batch: int | None = None
    again: bool = False
    variant: str = ""

    @property
    def name(self) -> str:
        """Of the method without its strength; one curve in the plot."""
        if self.strength == 0:
            return "plain"
        return self.strategy + self.variant

    @property
    def label(self) -> str:
        return self.name if self.strength is None or self.name == "plain" else f"{self.name}:{self.strength:g}"


PLAIN = Method("contextual", 0.0)


def method(text: str, pipeline: Any, changes: Mapping[str, Any]) -> Method:
    """From "plain", "cads", "cads:0.5", "contextual/paper:2", "contextual*3", "contextual@2", "contextual+".

    changes: of the settings of contextual repulsion.
    Raises InputError.
    """
    name, _, number = text.partition(":")
    again, name = name.endswith("+"), name.removesuffix("+")
    name, _, batch = name.partition("@")
    name, _, scope = name.partition("/")
    strategy, _, times = name.partition("*")
    if name == "plain":
        return PLAIN
    try:
        strength = float(number) if number else None
    except ValueError:
        raise InputError(f"The method {text!r} has the strength {number!r}: give a number, as in cads:0.5.") from None
    repels = STRATEGIES.get(strategy).repels
    if not repels and (scope or times or batch or again):
        raise InputError(f"The method {text!r} is more than {strategy} with a strength, which is all that it takes.")
    if times and not times.isdecimal():
        raise InputError(f"The method {text!r} oversamples {times!r} times: give a whole number, as in contextual*2.")
    if batch and not (batch.isdecimal() and int(batch)):
        raise InputError(f"The method {text!r} makes {batch!r} at once: give a whole number, as in contextual@2.")
    changes = {**changes, **({"scope": scope} if scope else {}), **({"oversample": int(times)} if times else {})}
    variant = f"*{times}" * bool(times) + f"/{scope}" * bool(scope) + f"@{batch}" * bool(batch) + "+" * again
    own = replace(default_settings(pipeline), **changes) if repels and changes else None
    return Method(strategy, strength, own, int(batch) if batch else None, again, variant)


def sweep(pipeline: Any, changes: Mapping[str, Any], settings: Repulsion) -> list[Method]:
    """Plain, every installed strategy at several strengths, and every scope. settings: of `contextual` itself."""
    found = ["plain"]
    own = settings.strength or 1.0
    for name, strategy in STRATEGIES.all().items():
        around = tuple(own * factor for factor in AROUND) if strategy.repels else (strategy.strength,)
        found += [f"{name}:{strength:g}" for strength in SWEEP.get(name, around)]
        if strategy.repels:  # as it comes, and in every other scope
            scopes = (scope for scope in adapter_for(pipeline).scopes if scope != settings.scope)
            found += [name, *(f"{name}/{scope}" for scope in scopes)]
    return [method(name, pipeline, changes) for name in found]
