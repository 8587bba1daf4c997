"""A set as server-sent events: each edit as soon as it is finished and judged."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from ctxrep_plugins.server import answers
from ctxrep_plugins.server.making import Making
from ctxrep_plugins.server.previews import Preview
from ctxrep_plugins.server.refusals import Refused

from ctxrep_edit import encode_json

if TYPE_CHECKING:
    from ctxrep_edit import Edit

COMPLETED, PARTIAL = "image_edit.completed", "image_edit.partial_image"


def event(name: str, data: Mapping[str, Any], number: int | None = None) -> bytes:
    """number: its id, from which a client may go on."""
    before = "" if number is None else f"id: {number}\n"
    return f"{before}event: {name}\ndata: {encode_json(data, indent=None)}\n\n".encode()


async def events(making: Making, model: str) -> AsyncIterator[bytes]:
    """Each edit as one event, after those of its previews; the last one has `set` too, so it is sent when the set is
    complete.

    Which one is the last is known by its number, but where unfaithful ones are dropped: there each is sent when the
    next one is there. Raises `Refused` where all were dropped, and what ended the run.
    """
    wanted, told = making.wanted, 0
    held: Edit | None = None
    drops = wanted.options.get("on_unfaithful") == "drop"
    async for edit in making.finished():
        if isinstance(edit, Preview):
            yield _shown(making, edit)
            continue
        if held is not None:
            yield await _told(making, held)
            held = None
        told += 1
        if drops or told == wanted.n:
            held = edit
        else:
            yield await _told(making, edit)
    if held is None:
        raise nothing_left(wanted.n)
    yield await _told(making, held, model)


def nothing_left(n: int) -> Refused:
    """Of a stream, which has no event then."""
    return Refused(f"All {n} edits failed a check and were dropped.", status=422, code="unfaithful")


def _shown(making: Making, preview: Preview) -> bytes:
    width, height = preview.size
    said = {
        "type": PARTIAL, "created_at": int(time.time()), "quality": "auto", "background": "opaque",
        "output_format": making.wanted.form.format, "size": f"{width}x{height}", "b64_json": preview.b64_json,
        "partial_image_index": preview.number, "index": preview.index,
    }  # fmt: skip
    return event(PARTIAL, said)


async def _told(making: Making, edit: Edit, last: str | None = None) -> bytes:
    """last: under which name the model is offered, for the last edit."""
    return await asyncio.to_thread(_completed, making, edit, last)


def _completed(making: Making, edit: Edit, last: str | None) -> bytes:
    wanted = making.wanted
    whole = None
    if last is not None:
        assert making.edits is not None  # it is complete by now
        whole = answers.about_set(making.edits, making.spread, making.warnings, last)
    said = answers.picture(edit, wanted)
    return completed(said, answers.shape(edit.image, wanted), answers.counted(wanted, making.patches, 1), whole)


def completed(
    said: Mapping[str, Any], shape: Mapping[str, Any], usage: Mapping[str, Any], whole: Mapping[str, Any] | None
) -> bytes:
    """The event of an edit. said: its entry of `data`; shape, usage: of its picture; whole: the set, with the last."""
    told = {
        "type": COMPLETED, "created_at": int(time.time()), "quality": "auto", **shape, **said, "usage": usage,
    }  # fmt: skip
    return event(COMPLETED, told if whole is None else {**told, "set": whole})
