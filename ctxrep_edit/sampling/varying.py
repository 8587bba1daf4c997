"""One value for each candidate, such as a colour: what it is asked for in words, in place of the open instruction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ctxrep_edit.errors import InputError

MARK = "{}"
"""Where in an instruction the value belongs."""


@dataclass(frozen=True)
class Wordings:
    """What the candidates of a set are asked for.

    instruction: of all of them. values: of which candidate i is asked for number i, in turn; none: all for the same.
    """

    instruction: str
    values: tuple[str, ...] = ()

    def __len__(self) -> int:
        return max(1, len(self.values))

    @property
    def apart(self) -> bool:
        """Whether candidates have words of their own."""
        return len(self.values) > 1

    def value(self, i: int) -> str | None:
        return self.values[i % len(self.values)] if self.values else None

    def said(self, i: int) -> str:
        """The instruction of candidate i: with its value at the mark, or, where there is none, behind a comma."""
        value = self.value(i)
        if value is None:
            return self.instruction
        marked = self.instruction if MARK in self.instruction else f"{self.instruction}, {MARK}"
        return marked.replace(MARK, value)

    @property
    def all(self) -> list[str]:
        """Every one once."""
        return [self.said(i) for i in range(len(self))]


def worded(instruction: str, vary: Any, n: int, batch_size: Any, options: Mapping[str, Any], **beside: Any) -> Wordings:
    """Of a call with `vary`. beside: arguments that do not go with it, by name, None where not given. Raises
    InputError."""
    if vary is None:
        return Wordings(instruction)
    if isinstance(vary, str) or not isinstance(vary, Sequence) or len(vary) < 2:
        raise InputError(
            f"vary is {vary!r}, but must be a list of values, two at least: ['red', 'blue']. An attribute by its name "
            "alone cannot be varied, and a single value is said in the instruction."
        )
    for value in vary:
        if not isinstance(value, str) or not value.strip() or any("\ud800" <= letter <= "\udfff" for letter in value):
            raise InputError(f"vary has the value {value!r}, but each must be some words, such as 'red'.")
    values = tuple(value.strip() for value in vary)
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise InputError(f"vary names {', '.join(map(repr, twice))} more than once: name each value once.")
    if len(values) > n:
        raise InputError(f"vary names {len(values)} values, but n is {n}: ask for at least {len(values)} edits.")
    if batch_size not in ("auto", 1):
        raise InputError(
            f"batch_size is {batch_size!r}, but with vary each candidate has words of its own and is made by itself: "
            "leave it out."
        )
    given = {name: thing for name, thing in {**options, **beside}.items() if thing is not None}
    for name in given:
        if name in beside or name.startswith("prompt"):
            why = "which says itself what is asked for" if name in options else "which is made otherwise"
            raise InputError(f"vary does not go with {name}, {why}: leave one of them out.")
    return Wordings(instruction, values)
