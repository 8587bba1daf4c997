"""An edit with an Idempotency-Key: a job that is waited for, so that asking again is answered and not made again."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from ctxrep_plugins.server.answers import counted, shape
from ctxrep_plugins.server.making import patches
from ctxrep_plugins.server.parameters import Wanted
from ctxrep_plugins.server.pictures import encoded
from ctxrep_plugins.server.refusals import Refused
from ctxrep_plugins.server.stream import completed, nothing_left

from ctxrep_edit import encode_json

if TYPE_CHECKING:
    from ctxrep_plugins.server.jobs import Jobs

POLL = 0.1
"""Seconds from one look for news to the next."""
STATUS = {"server_error": 500, "rate_limit_error": 429}


class Kept:
    """The set of a job, on its way or there, as it is answered in the form that `wanted` asks for."""

    def __init__(self, jobs: Jobs, job: str, owner: str | None, wanted: Wanted) -> None:
        self.jobs, self.job, self.owner, self.wanted = jobs, job, owner, wanted

    async def whole(self) -> str:
        """The answer, when the set is complete. Raises `Refused` where it failed."""
        while not (about := await self._about()):
            await asyncio.sleep(POLL)
        return await asyncio.to_thread(self._answer, about)

    async def events(self) -> AsyncIterator[bytes]:
        """Each edit as an event as soon as it is finished, the last one with the set."""
        sent, drops = set[int](), self.wanted.options.get("on_unfaithful") == "drop"
        while not (about := await self._about()):
            told = await asyncio.to_thread(self.jobs.shelf.told, self.job)
            for entry in told[:-1] if drops or len(told) == self.wanted.n else told:  # one is held back for the set
                if entry["index"] not in sent:
                    yield await asyncio.to_thread(self._completed, entry)
                    sent.add(entry["index"])
            await asyncio.sleep(POLL)
        if not about["data"]:
            raise nothing_left(self.wanted.n)
        *others, last = [entry for entry in about["data"] if entry["index"] not in sent]
        for entry in others:
            yield await asyncio.to_thread(self._completed, entry)
        yield await asyncio.to_thread(self._completed, last, about["set"])

    async def _about(self) -> Mapping[str, Any] | None:
        """What became of the job; None: nothing yet."""
        about = await asyncio.to_thread(self.jobs.about, self.job, self.owner)
        if about["status"] == "cancelled":
            raise Refused("The request of this Idempotency-Key was cancelled: take a new key.", status=409)
        if about["status"] == "failed":
            error = about["error"]
            raise Refused(error["message"], error["param"], status=_status(error), code=error["code"])
        return dict(about) if about["status"] == "completed" else None

    def _picture(self, entry: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], int]:
        """An entry of `data`, how its picture is, and how many patches it has."""
        from PIL import Image

        said = dict(entry)
        file = self.jobs.shelf.file(self.job, f"edit-{entry['index'] + 1}.png")
        if file is None:
            raise Refused("The set of this Idempotency-Key is kept no longer: take a new key.", status=410)
        with Image.open(file) as image:
            image.load()
            said["b64_json"] = encoded(image, self.wanted.form)
        if self.wanted.regions:
            region = self.jobs.shelf.file(self.job, f"region-{entry['index'] + 1}.png")
            said["region_b64"] = None if region is None else base64.b64encode(region.read_bytes()).decode()
        return said, shape(image, self.wanted), patches(image)

    def _answer(self, about: Mapping[str, Any]) -> str:
        made = [self._picture(entry) for entry in about["data"]]
        _, how, size = made[0] if made else ({}, {}, 0)
        usage, data = counted(self.wanted, size, len(made)), [entry for entry, _, _ in made]
        return encode_json(
            {"created": about["created"], **how, "data": data, "usage": usage, "set": about["set"]}, indent=None
        )

    def _completed(self, entry: Mapping[str, Any], whole: Mapping[str, Any] | None = None) -> bytes:
        said, how, size = self._picture(entry)
        return completed(said, how, counted(self.wanted, size, 1), whole)


def _status(error: Mapping[str, Any]) -> int:
    if error["code"] in ("busy", "stopped"):
        return 503
    codes = {"unfaithful": 422, "set_removed": 410, "time_limit": 504}
    return codes.get(error["code"], STATUS.get(error["type"], 400))
