"""Kinds of values that a parameter may have: how they are read from a form or from JSON, and their schema."""

from __future__ import annotations

import json
import math
import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ctxrep_plugins.server.refusals import Refused


class Reader(Protocol):
    """Reads the value of one parameter, text or of JSON's own kind, or raises `Refused`."""

    def __call__(self, name: str, value: Any) -> Any: ...

    @property
    def schema(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class Whole:
    """A whole number within limits."""

    low: int
    high: int

    def __call__(self, name: str, value: Any) -> int:
        number = int(value) if isinstance(value, str) and re.fullmatch(r"-?\d{1,20}", value, re.ASCII) else value
        if isinstance(number, bool) or not isinstance(number, int) or not self.low <= number <= self.high:
            raise Refused(f"{name} is {shown(value)}, but must be a whole number, {self.low} to {self.high}.", name)
        return number

    @property
    def schema(self) -> Mapping[str, Any]:
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True)
class Number:
    """A number within limits. words: what may stand in its place."""

    low: float
    high: float
    words: tuple[str, ...] = ()

    def __call__(self, name: str, value: Any) -> float | str:
        if isinstance(value, str) and value in self.words:
            return value
        try:
            number = math.nan if isinstance(value, bool) or not isinstance(value, str | int | float) else float(value)
        except (ValueError, OverflowError):
            number = math.nan
        if not self.low <= number <= self.high:
            other = "".join(f", or {word!r}" for word in self.words)
            raise Refused(f"{name} is {shown(value)}, but must be a number, {self.low} to {self.high}{other}.", name)
        return number

    @property
    def schema(self) -> Mapping[str, Any]:
        number = {"type": "number", "minimum": self.low, "maximum": self.high}
        return {"anyOf": [number, {"enum": list(self.words)}]} if self.words else number


@dataclass(frozen=True)
class Word:
    """One of a few words. otherwise: what a client that asks for another one is told beside them."""

    words: tuple[str, ...]
    otherwise: str = ""

    def __call__(self, name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in self.words:
            only = " or ".join(repr(word) for word in self.words)
            raise Refused(f"{name} is {shown(value)}, but can only be {only}. {self.otherwise}".rstrip(), name)
        return value

    @property
    def schema(self) -> Mapping[str, Any]:
        return {"type": "string", "enum": list(self.words)}


@dataclass(frozen=True)
class Text:
    """Text of at most so many letters."""

    most: int

    def __call__(self, name: str, value: Any) -> str:
        if not isinstance(value, str) or not value.strip() or len(value) > self.most:
            what = f"{len(value)} letters long" if isinstance(value, str) and value.strip() else shown(value)
            raise Refused(f"{name} is {what}, but must be text of 1 to {self.most} letters.", name)
        if any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in value):
            raise Refused(f"{name} is not valid Unicode text: type it anew.", name)
        return value

    @property
    def schema(self) -> Mapping[str, Any]:
        return {"type": "string", "minLength": 1, "maxLength": self.most}


@dataclass(frozen=True)
class Flag:
    """True or false."""

    def __call__(self, name: str, value: Any) -> bool:
        found = {"true": True, "false": False}.get(value) if isinstance(value, str) else value
        if not isinstance(found, bool):
            raise Refused(f"{name} is {shown(value)}, but must be true or false.", name)
        return found

    @property
    def schema(self) -> Mapping[str, Any]:
        return {"type": "boolean"}


@dataclass(frozen=True)
class Names:
    """One of a few words, or a list of names."""

    words: tuple[str, ...]

    def __call__(self, name: str, value: Any) -> str | list[str]:
        if isinstance(value, str) and value in self.words:
            return value
        found = [value] if isinstance(value, str) else value
        if not isinstance(found, Sequence) or not 1 <= len(found) <= 32:
            found = [None]
        if not all(isinstance(one, str) and 0 < len(one) <= 100 for one in found):
            only = " or ".join(repr(word) for word in self.words)
            raise Refused(f"{name} is {shown(value)}, but must be {only}, or names of checks.", name)
        return list(found)

    @property
    def schema(self) -> Mapping[str, Any]:
        return {"anyOf": [{"enum": list(self.words)}, {"type": "array", "items": {"type": "string"}}]}


@dataclass(frozen=True)
class Values:
    """A list of texts; the core says which of them make sense."""

    most: int

    def __call__(self, name: str, value: Any) -> list[str]:
        if not isinstance(value, list) or not 1 <= len(value) <= self.most:
            raise Refused(f"{name} is {shown(value)}, but must be a list of up to {self.most} texts.", name)
        return [Text(200)(name, one) for one in value]

    @property
    def schema(self) -> Mapping[str, Any]:
        items = {"type": "string", "minLength": 1, "maxLength": 200}
        return {"type": "array", "items": items, "minItems": 1, "maxItems": self.most}


@dataclass(frozen=True)
class Size:
    """WIDTHxHEIGHT in pixels, or auto: None."""

    most: int

    def __call__(self, name: str, value: Any) -> tuple[int, int] | None:
        if value == "auto":
            return None
        found = re.fullmatch(r"(\d{1,6})x(\d{1,6})", value, re.ASCII) if isinstance(value, str) else None
        width, height = (int(found[1]), int(found[2])) if found else (0, 0)
        if not (8 <= width <= self.most and 8 <= height <= self.most):
            raise Refused(
                f"{name} is {shown(value)}, but must be 'auto' or WIDTHxHEIGHT, of 8 to {self.most} pixels a side.",
                name,
            )
        return width, height

    @property
    def schema(self) -> Mapping[str, Any]:
        return {"type": "string", "pattern": r"^(auto|\d{1,6}x\d{1,6})$"}


LAST = 10**6
"""A number that no edit has."""
LONGEST = 2**16
"""Letters of JSON text in a form."""


@dataclass(frozen=True)
class Indices:
    """A list of different numbers of edits."""

    def __call__(self, name: str, value: Any) -> list[int]:
        if not isinstance(value, list) or not value or len(set(map(repr, value))) < len(value):
            raise Refused(f"{name} is {shown(value)}, but must be a list of the index of edits, each once.", name)
        return sorted(Whole(0, LAST)(name, one) for one in value)

    @property
    def schema(self) -> Mapping[str, Any]:
        return {"type": "array", "items": Whole(0, LAST).schema, "uniqueItems": True}


def parsed(value: Any) -> Any:
    """What a form has as JSON text; all else, and what is too long for it, is as it is."""
    if not isinstance(value, str) or len(value) > LONGEST or not value.lstrip().startswith(("{", "[")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def shown(value: Any) -> str:
    """A value of a client, as short as it must be to be found again."""
    text = repr(value[:60]) if isinstance(value, str) else reprlib.repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
