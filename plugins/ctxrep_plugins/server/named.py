"""`unlike`, `like` and `between`: which edits of earlier sets a request names, and where those are."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ctxrep_plugins.server.readers import LAST, Indices, Number, Whole, parsed, shown
from ctxrep_plugins.server.refusals import Refused

if TYPE_CHECKING:
    from ctxrep_plugins.server.jobs import Jobs

Named = tuple[str, Sequence[int] | None]
"""A set, by its id or its folder, and the `index` of edits of it; None: all."""
LEANS = ("unlike", "like", "between")
"""Parameters that name edits."""
MOST = 8
"""Sets of one request."""
BANK = "bank.safetensors"
COUNT = 5
"""Edits of a walk, both ends among them, where it is not said how many."""
SET = {"type": "string"}
INDEX = {"type": "integer", "minimum": 0}


@dataclass(frozen=True)
class Unlike:
    """{"set": ID, "index": [0, 3]}, or a list of them; in a form as JSON text, or as unlike[set] and unlike[index]."""

    def __call__(self, name: str, value: Any) -> list[dict[str, Any]]:
        value = parsed(value)
        many = value if isinstance(value, list) else [value]
        if not 1 <= len(many) <= MOST or not all(isinstance(one, dict) for one in many):
            what = f"{name} is {shown(value)}, but must be an object, or a list of 1 to {MOST}."
            raise Refused(f"{what} {self.form}", name)
        return [self._one(name, one) for one in many]

    def _one(self, name: str, one: Mapping[str, Any]) -> dict[str, Any]:
        given = _object(name, one, ("index",), self.form)
        index = given.get("index")
        return {"set": given["set"], "index": None if index is None else Indices()(name, parsed(index))}

    form = 'Give {"set": "set-...", "index": [0, 3]}; without index all of its edits are meant.'

    @property
    def schema(self) -> Mapping[str, Any]:
        one = _schema({"index": {"type": "array", "items": INDEX}}, ["set"])
        return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1, "maxItems": MOST}]}


@dataclass(frozen=True)
class Like:
    """{"set": ID, "index": 3}."""

    def __call__(self, name: str, value: Any) -> list[dict[str, Any]]:
        given = _object(name, parsed(value), ("index",), self.form)
        return [{"set": given["set"], "index": [Whole(0, LAST)(name, given.get("index"))]}]

    form = 'Give {"set": "set-...", "index": 3}.'

    @property
    def schema(self) -> Mapping[str, Any]:
        return _schema({"index": INDEX}, ["set", "index"])


@dataclass(frozen=True)
class Between:
    """{"set": ID, "index": [0, 3], "count": 5, "beyond": 0.5}, the last two where wanted. most: edits of a walk."""

    most: int

    def __call__(self, name: str, value: Any) -> list[dict[str, Any]]:
        given = _object(name, parsed(value), ("index", "count", "beyond"), self.form)
        ends = parsed(given.get("index"))
        if not isinstance(ends, list) or len(ends) != 2:
            raise Refused(f"{name} has the index {shown(ends)}, but must name two edits. {self.form}", name)
        index = [Whole(0, LAST)(name, one) for one in ends]
        if index[0] == index[1]:
            raise Refused(f"{name} names the edit {index[0]} twice: name two.", name)
        count, beyond = given.get("count"), given.get("beyond")
        return [
            {
                "set": given["set"], "index": index,
                "count": COUNT if count is None else Whole(2, self.most)(f"{name}.count", count),
                "beyond": 0.0 if beyond is None else Number(0, 1)(f"{name}.beyond", beyond),
            }
        ]  # fmt: skip

    form = 'Give {"set": "set-...", "index": [0, 3], "count": 5, "beyond": 0.5}, the last two where wanted.'

    @property
    def schema(self) -> Mapping[str, Any]:
        ends = {"type": "array", "items": INDEX, "minItems": 2, "maxItems": 2, "uniqueItems": True}
        count, beyond = Whole(2, self.most).schema, Number(0, 1).schema
        return _schema({"index": ends, "count": count, "beyond": beyond}, ["set", "index"])


def _object(name: str, value: Any, known: Collection[str], form: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not isinstance(value.get("set"), str) or not {*value} <= {"set", *known}:
        raise Refused(f"{name} is {shown(value)}, but must name a set. {form}", name)
    return value


def _schema(properties: Mapping[str, Any], required: Sequence[str]) -> dict[str, Any]:
    known = {"set": SET, **properties}
    return {"type": "object", "required": [*required], "additionalProperties": False, "properties": known}


def places(
    named: Mapping[str, Sequence[Mapping[str, Any]]], jobs: Jobs | None, owner: str | None
) -> dict[str, list[Named]]:
    """The folders of the sets that each parameter names. Raises `Refused` for a set that is not there, or whose edits
    have left nothing to lean on."""
    for name in named:
        if jobs is None:
            raise Refused(f"{name} names a set, which only a server with --state keeps: leave it out.", name)
    return {name: [_place(name, one, jobs, owner) for one in some] for name, some in named.items()}  # type: ignore[arg-type]


def check_index(name: str, index: Sequence[int] | None, data: Sequence[Mapping[str, Any]]) -> None:
    """Raises `Refused` for an `index` that no edit of a set has, whose entries are `data`."""
    there = [entry["index"] for entry in data]
    lacking = [i for i in index or () if i not in there]
    if lacking:
        known = ", ".join(map(str, there)) or "none"
        raise Refused(f"{name}: the set has no edit with the index {lacking[0]}. Those that are there: {known}.", name)


def _place(name: str, one: Mapping[str, Any], jobs: Jobs, owner: str | None) -> Named:
    about = jobs.set_about(one["set"], owner, name)
    check_index(name, one["index"], about["data"])
    folder = jobs.shelf.set_of(about["job"])
    if not (folder / BANK).is_file():
        message = f"{name}: {one['set'][:40]} has kept nothing to lean on: it is plain, or took too much memory."
        raise Refused(message, name, status=409, code="set_has_no_bank")
    return str(folder), one["index"]
