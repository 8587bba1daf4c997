"""How edits are made, in the worker's process: by themselves, or leaning on edits of earlier sets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ctxrep_plugins.server.named import Named
from ctxrep_plugins.server.refusals import Refused

from ctxrep_edit import InputError, ModelError

if TYPE_CHECKING:
    from ctxrep_edit import Edit, EditSet

Places = Mapping[str, Sequence[Named]]
"""Folders of sets, by the parameter that names them."""


def edited(
    image: bytes, prompt: str, n: int, tell: Callable[[Edit], None], *, places: Places, walk: Mapping[str, Any] | None,
    pipeline: Any, on_step: Any, **options: Any,
) -> EditSet:  # fmt: skip
    """The set; each edit is told as soon as it is finished. walk: `count` and `beyond` of one, None: there is none.
    options: of `stream_edits`; a walk goes by those of its set."""
    from ctxrep_edit import stream_edits

    if walk is not None:
        found, ends = _ends(image, prompt, places["between"][0])
        return found.between(
            *ends, walk["count"], beyond=walk["beyond"], pipeline=pipeline, progress=False, on_step=on_step,
            on_edit=tell,
        )  # fmt: skip
    like = edits_of("like", places.get("like", ()))
    try:
        made = stream_edits(
            image, prompt, n, unlike=edits_of("unlike", places.get("unlike", ())), pipeline=pipeline, progress=False,
            on_step=on_step, like=like[0] if like else None, **options,
        )  # fmt: skip
    except ModelError as error:
        if isinstance(options.get("preserve"), str) or error.__cause__ is not None:
            raise
        raise Refused(str(error), "preserve") from error  # a check was named that has no model here
    for edit in made:
        tell(edit)
    return made.edits


def edits_of(param: str, named: Sequence[Named]) -> list[Edit]:
    """The edits themselves, loaded from the folders of their sets."""
    return [
        edit for folder, indices in named for edit in loaded(folder, param) if indices is None or edit.index in indices
    ]


def loaded(folder: str, param: str | None = None) -> EditSet:
    """Raises `Refused` where it has gone meanwhile. param: that names it."""
    from ctxrep_edit import EditSet

    try:
        return EditSet.load(folder)
    except InputError:  # which names a folder of the server
        message = "That set is there no longer: ask for a new one."
        raise Refused(message, param, status=410, code="set_removed") from None


def _ends(image: bytes, prompt: str, named: Named) -> tuple[EditSet, list[Edit]]:
    """The set of a walk, and the two edits that it goes between. Raises `Refused` where the set is of something else,
    as a walk goes by what its set was asked for."""
    from ctxrep_edit import read_image

    folder, indices = named
    found = loaded(folder, "between")
    picture = read_image(image)
    pixels = {"size": [*picture.size], "sha256": hashlib.sha256(picture.tobytes()).hexdigest()}
    for what, same in (("image", found.recipe["source"] == pixels), ("prompt", found.instruction == prompt)):
        if not same:
            message = f"between: that set is of another {what}, and a walk goes by its set: give its {what}."
            raise Refused(message, "between")
    return found, [next(edit for edit in found if edit.index == i) for i in indices or ()]
