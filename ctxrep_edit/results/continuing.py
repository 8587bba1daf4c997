"""How a set is continued: by what it was asked for, and by what its edits left behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ctxrep_edit.errors import InputError
from ctxrep_edit.results.edit import Edit
from ctxrep_edit.settings import is_count

if TYPE_CHECKING:
    from ctxrep_edit.results.editset import EditSet
    from ctxrep_edit.sampling.asked import Distinct

OnEdit = Callable[[Edit], None]
SHARED = ("source", "size", "model")
"""What the recipes of sets must agree in to be joined."""


@dataclass(frozen=True)
class Asked:
    """What a set was asked for, so that more like it can be made.

    arguments: of `diverse_edit`, but for n, seed and unlike, those of the pipeline as `options`; the pipeline, where
    one was given, as a weak reference, so that a set keeps none alive, or `gone`. next_seed: the first that no
    candidate of the set started from. repels: whether its edits are ones that others can be repelled from.
    """

    arguments: Mapping[str, Any]
    next_seed: int
    repels: bool

    def pipeline(self, given: Any) -> Any:
        """`given`, or the one that made the set; None where that is to be loaded by its name. Raises InputError."""
        known = self.arguments.get("pipeline")
        if given is not None or known is None:
            return given
        found = known()
        if found is None:
            raise InputError(
                "The pipeline that made these edits is gone: give one of the same model, as in more(4, pipeline=...)."
            )
        return found


def gone() -> None:
    """In place of a weak reference to a pipeline that was given in another process."""


def more(
    edits: EditSet, n: int, unlike: Any, distinct: Distinct | None, pipeline: Any, on_edit: OnEdit | None, **now: Any
) -> EditSet:
    """See `EditSet.more`."""
    asked, arguments = again(edits, n, pipeline)
    if distinct is not None:
        arguments["distinct"] = distinct
    if unlike is None:
        unlike = list(edits) if asked.repels else ()
    return called(on_edit, n=n, seed=asked.next_seed, unlike=unlike, **arguments, **now)


def called(on_edit: OnEdit | None, **arguments: Any) -> EditSet:
    """The public verb: what goes on from a set is one more call of it."""
    from ctxrep_edit import diverse_edit, stream_edits

    if on_edit is None:
        return diverse_edit(**arguments)
    made = stream_edits(**arguments)
    for edit in made:
        on_edit(edit)
    return made.edits


def again(edits: EditSet, n: int, pipeline: Any) -> tuple[Asked, dict[str, Any]]:
    """What a set was asked for, and the arguments with which `diverse_edit` makes n more like it, those of the
    pipeline's call among them. Raises InputError where that is not known."""
    asked = edits.asked
    if asked is None:
        raise InputError(
            "This set cannot be continued, as what it was asked for is not known: its pictures were given, or it was "
            "loaded from a folder without its bank. Save it with bank=True, or make it anew."
        )
    arguments = {**asked.arguments, "pipeline": asked.pipeline(pipeline)}
    if pipeline is not None:
        arguments |= {"model": None, "device": None, "dtype": None}
    if is_count(arguments.get("batch_size")) and is_count(n):
        arguments["batch_size"] = min(arguments["batch_size"], n)
    return asked, arguments | arguments.pop("options")


def joined(one: EditSet, other: EditSet) -> EditSet:
    """See `EditSet.__add__`."""
    for what in SHARED:
        if one.recipe.get(what) != other.recipe.get(what):
            raise InputError(f"These sets are not of one {what}, so they cannot be joined: join sets of one picture.")
    if one.instruction != other.instruction:
        raise InputError(
            f"These sets are of the instructions {one.instruction!r} and {other.instruction!r}, so they cannot be "
            "joined: join sets of one instruction."
        )
    first = 1 + max((edit.index for edit in (*one.edits, *one.dropped)), default=-1)
    place = {index: i for i, index in enumerate(sorted(edit.index for edit in (*other.edits, *other.dropped)), first)}
    edits, dropped = (
        (*mine, *(replace(edit, index=place[edit.index]) for edit in theirs))
        for mine, theirs in ((one.edits, other.edits), (one.dropped, other.dropped))
    )
    parts = [part for some in (one, other) for part in some.recipe.get("joined", [dict(some.recipe)])]
    asked = other.asked
    if one.asked is not None and other.asked is not None:
        asked = replace(other.asked, next_seed=max(one.asked.next_seed, other.asked.next_seed))
    return replace(
        one,
        edits=edits,
        recipe={**one.recipe, "n": len(edits), "joined": parts},
        contextual_vendi=None,
        seconds=one.seconds + other.seconds,
        dropped=dropped,
        asked=asked,
    )
