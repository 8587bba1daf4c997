"""One set on its way: the worker makes it, the one who asked for it awaits its edits."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ctxrep_plugins.server.parameters import Wanted
from ctxrep_plugins.server.previews import Preview, previewing
from ctxrep_plugins.server.refusals import Cancelled, Refused
from ctxrep_plugins.server.unlike import edits_of
from ctxrep_plugins.server.warned import heard

from ctxrep_edit import InputError

if TYPE_CHECKING:
    from ctxrep_edit import Edit, EditSet

PATCH = 256
"""Pixels of a patch of 16 x 16, in which `usage` counts pictures."""


class Making:
    """The edits that `wanted` asks for. Made in the thread of an event loop, in which it is awaited.

    patches: of an edit, 16 x 16 pixels at the size at which is edited.
    """

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.edits: EditSet | None = None
        self.patches = 0
        self.spread: Mapping[str, Any] = {}
        self.warnings: list[str] = []
        self._loop = asyncio.get_running_loop()
        self._news: asyncio.Queue[Edit | Preview | BaseException | None] = asyncio.Queue()
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """Nobody waits any longer: the run ends at the end of its step."""
        self._cancelled.set()

    def work(self, pipeline: Any) -> None:
        """Makes them, in the worker's thread."""
        try:
            if not self._cancelled.is_set():
                with heard(self.warnings):
                    self._make(pipeline)
            self._tell(None)
        except BaseException as error:
            self._tell(error)

    def _make(self, pipeline: Any) -> None:
        from ctxrep_edit import stream_edits

        wanted = self.wanted
        check_heard(pipeline, wanted.options)
        on_preview = previewing(wanted.previews, wanted.form, self._tell) if wanted.previews else None
        made = stream_edits(
            wanted.image, wanted.prompt, wanted.n, mask=wanted.mask, pipeline=pipeline, bank="off", progress=False,
            on_step=self._on_step, on_preview=on_preview, references=wanted.references, unlike=edits_of(wanted.places),
            **wanted.options,
        )  # fmt: skip
        for edit in made:
            self.patches = -(-edit.image.width * edit.image.height // PATCH)
            self._tell(edit)
        self.edits = made.edits
        self.spread = spread(made.edits)

    def _on_step(self, step: int, steps: int) -> None:
        if self._cancelled.is_set():
            raise Cancelled("Nobody waits for these edits any longer.")

    def _tell(self, news: Edit | Preview | BaseException | None) -> None:
        with suppress(RuntimeError):  # the loop is closed, so nobody listens
            self._loop.call_soon_threadsafe(self._news.put_nowait, news)

    async def finished(self) -> AsyncIterator[Edit | Preview]:
        """Each edit as soon as it is finished, its previews before; raises what ended the run. Afterwards `edits` is
        the set."""
        while (news := await self._news.get()) is not None:
            if isinstance(news, BaseException):
                raise news
            yield news
        if self.edits is None:
            raise Cancelled("Nobody waits for these edits any longer.")


def check_heard(pipeline: Any, options: Mapping[str, Any]) -> None:
    """Raises `Refused` for options that would have no effect."""
    true_cfg = "true_cfg_scale" in inspect.signature(type(pipeline).__call__).parameters
    if true_cfg and "negative_prompt" in options and not options.get("true_cfg_scale", 1) > 1:
        raise Refused(
            f"negative_prompt has no effect on {type(pipeline).__name__} unless true_cfg_scale is above 1: give both, "
            "or none.", "negative_prompt",
        )  # fmt: skip


def spread(edits: EditSet) -> Mapping[str, Any]:
    """How far the edits of a set differ, where its pictures were measured at all."""
    if not len(edits) or not any(edit.verdicts for edit in edits):
        return {"vendi": None, "distinct": None}
    try:
        return {"vendi": round(edits.vendi, 4), "distinct": edits.distinct}
    except InputError:  # an embedder that is switched off
        return {"vendi": None, "distinct": None}
