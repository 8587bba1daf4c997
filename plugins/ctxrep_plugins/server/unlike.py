"""`unlike`: which edits of earlier sets new ones are to be unlike, from what a client names to the edits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ctxrep_plugins.server.readers import Indices, parsed, shown
from ctxrep_plugins.server.refusals import Refused

from ctxrep_edit import InputError

if TYPE_CHECKING:
    from ctxrep_plugins.server.jobs import Jobs

    from ctxrep_edit import Edit

Named = tuple[str, Sequence[int] | None]
"""A set, by its id or its folder, and the `index` of edits of it; None: all."""
MOST = 8
"""Sets of one request."""
BANK = "bank.safetensors"


@dataclass(frozen=True)
class Unlike:
    """{"set": ID, "index": [0, 3]}, or a list of them; in a form as JSON text, or as unlike[set] and unlike[index]."""

    def __call__(self, name: str, value: Any) -> list[dict[str, Any]]:
        value = parsed(value)
        many = value if isinstance(value, list) else [value]
        if not 1 <= len(many) <= MOST or not all(isinstance(one, dict) for one in many):
            raise Refused(f"{name} is {shown(value)}, but must be an object, or a list of 1 to {MOST}. {FORM}", name)
        return [self._one(name, one) for one in many]

    def _one(self, name: str, one: Mapping[str, Any]) -> dict[str, Any]:
        if not isinstance(one.get("set"), str) or not {*one} <= {"set", "index"}:
            raise Refused(f"{name} has {shown(dict(one))}, but must name a set. {FORM}", name)
        index = one.get("index")
        return {"set": one["set"], "index": None if index is None else Indices(10**6)(name, parsed(index))}

    @property
    def schema(self) -> Mapping[str, Any]:
        one = {
            "type": "object", "required": ["set"], "additionalProperties": False,
            "properties": {"set": {"type": "string"}, "index": {"type": "array", "items": {"type": "integer"}}},
        }  # fmt: skip
        return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1, "maxItems": MOST}]}


FORM = 'Give {"set": "set-...", "index": [0, 3]}; without index all of its edits are meant.'


def places(unlike: Sequence[Mapping[str, Any]], jobs: Jobs | None, owner: str | None) -> list[Named]:
    """The folders of the sets. Raises `Refused` for a set that is not there, or that nothing can be unlike."""
    if unlike and jobs is None:
        raise Refused("unlike names sets, which only a server with --state keeps: leave it out.", "unlike")
    found = list[Named]()
    for one in unlike:
        assert jobs is not None
        about = jobs.set_about(one["set"], owner, "unlike")
        indices, there = one["index"], [edit["index"] for edit in about["data"]]
        lacking = [i for i in indices or () if i not in there]
        if lacking:
            raise Refused(f"unlike: {one['set'][:40]} has no edit with the index {lacking[0]}.", "unlike")
        folder = jobs.shelf.set_of(about["job"])
        if not (folder / BANK).is_file():
            message = f"unlike: {one['set'][:40]} has kept nothing to be unlike: it is plain, or took too much memory."
            raise Refused(message, "unlike", status=409, code="set_has_no_bank")
        found.append((str(folder), indices))
    return found


def edits_of(named: Sequence[Named]) -> list[Edit]:
    """The edits themselves, loaded from the folders of their sets. Raises `Refused` where one has gone meanwhile."""
    from ctxrep_edit import EditSet

    found = list[Any]()
    for folder, indices in named:
        try:
            edits = EditSet.load(folder)
        except InputError:  # which names a folder of the server
            message = "unlike: that set is there no longer: leave it out."
            raise Refused(message, "unlike", status=410, code="set_removed") from None
        found += [edit for edit in edits if indices is None or edit.index in indices]
    return found
