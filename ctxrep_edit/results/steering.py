"""Sets that lean on the edits of another: a walk between two of them, and variations of one."""

from __future__ import annotations

import operator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ctxrep_edit.errors import InputError
from ctxrep_edit.results.continuing import OnEdit, again, called
from ctxrep_edit.results.edit import Edit
from ctxrep_edit.sampling.steering import Between
from ctxrep_edit.settings import is_count, is_number

if TYPE_CHECKING:
    from ctxrep_edit.results.editset import EditSet


def between(
    edits: EditSet, one: int | Edit, other: int | Edit, count: int, beyond: float, pipeline: Any,
    on_edit: OnEdit | None, **now: Any,
) -> EditSet:  # fmt: skip
    """See `EditSet.between`."""
    ends = _named(edits, one), _named(edits, other)
    if ends[0] is ends[1]:
        raise InputError(
            f"Both ends of the walk are edit {ends[0].index + 1}, so that there is nothing between: name two edits, or "
            "take `like` for variations of one."
        )
    if not (is_count(count) and count >= 2):
        raise InputError(f"count is {count!r}, but must be a whole number of edits, both ends among them: at least 2.")
    if not (is_number(beyond) and 0 <= beyond <= 1):
        raise InputError(
            f"beyond is {beyond!r}, but must be a number from 0 to 1: how far past the second edit, in shares of the "
            "way between the two."
        )
    asked, arguments = again(edits, int(count), pipeline)
    arguments |= _in_words_of(ends[0])
    shares = [float(share) for share in np.linspace(0, 1 + float(beyond), int(count))]
    arguments |= {
        "strategy": Between(*ends, shares, asked.next_seed), "oversample": 1,
        "on_unfaithful": "flag", "distinct": "count",  # another round would make the same
    }  # fmt: skip
    known = {0.0: ends[0].seed, 1.0: ends[1].seed}

    def step(edit: Edit) -> Edit:
        return replace(edit, seed=known.get(shares[edit.index]), strength=None)

    told = None if on_edit is None else lambda edit: on_edit(step(edit))
    walk = called(told, n=int(count), seed=asked.next_seed, **arguments, **now)
    return replace(walk, edits=tuple(step(edit) for edit in walk), asked=asked)


def like(
    edits: EditSet, edit: int | Edit, n: int, spread: float, pipeline: Any, on_edit: OnEdit | None, **now: Any
) -> EditSet:
    """See `EditSet.like`."""
    liked = _named(edits, edit)
    asked, arguments = again(edits, n, pipeline)
    arguments |= _in_words_of(liked)
    return called(on_edit, n=n, seed=asked.next_seed, like=liked, spread=spread, **arguments, **now)


def _in_words_of(edit: Edit) -> dict[str, Any]:
    """What is asked for to lean on it: of an edit of a set with `vary` its own words, which all share then."""
    if edit.value is None or edit.trace is None:
        return {}
    return {"vary": None, "instruction": edit.trace.kind["instruction"]}


def _named(edits: EditSet, named: int | Edit) -> Edit:
    """An edit of the set by its place, or one that was given. Raises InputError."""
    if isinstance(named, Edit):
        return named
    try:
        place = len(edits) if isinstance(named, bool) else operator.index(named)  # numpy's too
    except TypeError:
        place = len(edits)
    if not -len(edits) <= place < len(edits):
        raise InputError(
            f"{named!r} names no edit: give its place in this set, from 0 to {len(edits) - 1}, or the edit itself."
        )
    return edits[place]
