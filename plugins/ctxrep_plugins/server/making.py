"""One set on its way: a worker makes it, the one who asked for it awaits its edits."""

from __future__ import annotations

import asyncio
import functools
import secrets
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ctxrep_plugins.server.leaning import edited
from ctxrep_plugins.server.parameters import Wanted
from ctxrep_plugins.server.previews import Preview, previewing
from ctxrep_plugins.server.turns import OnStep, Task, Tell
from ctxrep_plugins.server.warned import heard
from ctxrep_plugins.shared import how_far

if TYPE_CHECKING:
    from PIL import Image

    from ctxrep_edit import Edit, EditSet

PATCH = 256
"""Pixels of a patch of 16 x 16, in which `usage` counts pictures."""


class Making:
    """The edits that `wanted` asks for. Made in the thread of an event loop, in which it is awaited.

    left: is told when nobody waits any longer. patches: of an edit, 16 x 16 pixels at the size at which is edited.
    """

    def __init__(self, wanted: Wanted, left: Callable[[], None]) -> None:
        self.wanted, self._left = wanted, left
        self.edits: EditSet | None = None
        self.patches = 0
        self.spread: Mapping[str, Any] = {}
        self.warnings: list[str] = []
        self._loop = asyncio.get_running_loop()
        self._news: asyncio.Queue[Edit | Preview | BaseException | None] = asyncio.Queue()
        self._cancelled = threading.Event()
        self._seen = set[tuple[int, int | None]]()

    def task(self, key: str | None) -> Task:
        """What a worker is to do. key: whose turn it takes."""
        seed = secrets.randbelow(2**31)  # drawn here, so that a set that is begun anew is the same
        task = Task(functools.partial(make_set, self.wanted, seed), self._hear, self._cancelled.is_set, key)
        task.done.add_done_callback(self._end)
        return task

    def cancel(self) -> None:
        """Nobody waits any longer: the run ends at the end of its step, or is never begun."""
        self._cancelled.set()
        self._left()

    def _hear(self, news: Edit | Preview) -> None:
        """What the worker tells, in its thread; one that begins anew tells again what was told."""
        what = (news.index, news.number if isinstance(news, Preview) else None)
        if what in self._seen:
            return
        self._seen.add(what)
        if not isinstance(news, Preview):
            self.patches = patches(news.image)
        self._tell(news)

    def _end(self, done: Future[Any]) -> None:
        error = done.exception()
        if error is None:
            self.edits, self.spread, self.warnings = done.result()
        self._tell(error)

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


def make_set(
    wanted: Wanted, seed: int, pipeline: Any, tell: Tell, on_step: OnStep
) -> tuple[EditSet, Mapping[str, Any], list[str]]:
    """Makes the edits, in the worker's process, and tells each, and its previews: the set, how far its edits differ,
    and the warnings. seed: where none is wanted."""
    warnings = list[str]()
    with heard(warnings):
        edits = edited(
            wanted.image, wanted.prompt, wanted.n, tell, places=wanted.places, walk=wanted.walk, pipeline=pipeline,
            on_step=on_step, mask=wanted.mask, references=wanted.references, bank="off",
            on_preview=previewing(wanted.previews, wanted.form, tell) if wanted.previews else None,
            **{"seed": seed, **wanted.options},
        )  # fmt: skip
        return edits, how_far(edits), warnings


def patches(image: Image.Image) -> int:
    """How many patches of 16 x 16 pixels a picture has."""
    return -(-image.width * image.height // PATCH)


def counted(edits: Iterable[Edit]) -> Counter[str]:
    """How many edits there are by what the checks say of them."""
    return Counter(("faithful" if edit.faithful else "unfaithful") if edit.verdicts else "not judged" for edit in edits)
