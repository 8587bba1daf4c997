"""The paths of jobs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ctxrep_plugins.server.body import key_of, read_json
from ctxrep_plugins.server.jobs import ENDED, Jobs
from ctxrep_plugins.server.named import check_index
from ctxrep_plugins.server.parameters import Limits, Wanted
from ctxrep_plugins.server.readers import Indices, Whole
from ctxrep_plugins.server.refusals import Refused
from ctxrep_plugins.server.schema import edits_schema
from ctxrep_plugins.server.shelf import REFERENCE, job_of
from ctxrep_plugins.server.stream import event
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse

POLL, SIGN = 0.2, 15.0
"""Seconds: after which is looked for news, and after which a reader is told that there are none."""
AT_ONCE = (
    "background", "output_compression", "output_format", "partial_images", "regions", "response_format", "size",
    "stream",
)  # fmt: skip
"""Parameters of an answer that has the pictures in it."""


def add_jobs(app: FastAPI, jobs: Jobs, limits: Limits, asked: Any) -> None:
    """asked: reads a request as `Wanted`."""

    @app.post("/v1/jobs", openapi_extra=edits_schema(limits, without=AT_ONCE), status_code=202, summary="Ask for edits")
    async def new(request: Request) -> Response:
        wanted: Wanted = await asked(request)
        for name in AT_ONCE:
            if name in wanted.fields:
                message = f"{name} is for /v1/images/edits: the pictures of a job are PNG files. Leave it out."
                raise Refused(message, name, code="unsupported_parameter")
        return await _accepted(request, jobs, *laid_down(wanted))

    @app.post("/v1/jobs/{job}/more", status_code=202, summary="More edits, unlike those of a job")
    async def more(request: Request, job: str) -> Response:
        before = await asyncio.to_thread(jobs.about, job, request.state.owner)
        if before["status"] != "completed":
            raise Refused(f"The job is {before['status']}: there is more of a set once it is there.", status=409)
        stated = await _more_asked(request, limits, before["data"])
        return await _accepted(request, jobs, {**stated, "more_of": job}, {})

    @app.get("/v1/jobs/{job}", summary="What has become of a job")
    async def one(request: Request, job: str) -> Response:
        return JSONResponse(await asyncio.to_thread(jobs.about, job, request.state.owner))

    @app.post("/v1/jobs/{job}/cancel", summary="End a job")
    async def cancel(request: Request, job: str) -> Response:
        return JSONResponse(await asyncio.to_thread(jobs.cancel, job, request.state.owner))

    @app.get("/v1/jobs/{job}/events", summary="Its edits as they are finished, then its end")
    async def events(request: Request, job: str) -> Response:
        last = request.headers.get("last-event-id", "0")
        seen = Whole(0, 10**6)("Last-Event-ID", last)
        await asyncio.to_thread(jobs.request, job, request.state.owner)
        return StreamingResponse(_news(jobs, job, request.state.owner, seen), media_type="text/event-stream")

    @app.get("/v1/sets/{name}", summary="A set that is complete")
    async def whole(request: Request, name: str) -> Response:
        return JSONResponse(await asyncio.to_thread(jobs.set_about, name, request.state.owner))

    @app.get("/v1/sets/{name}/files/{file}", summary="A picture of a set, also before it is complete")
    async def picture(request: Request, name: str, file: str) -> Response:
        return FileResponse(await asyncio.to_thread(_file, jobs, name, request.state.owner, file))


def laid_down(wanted: Wanted) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A request as a job keeps it: what it asks for, and its pictures by name."""
    stated = {"prompt": wanted.prompt, "n": wanted.n, "options": dict(wanted.options)}
    stated |= wanted.named
    stated |= {"walk": wanted.walk} if wanted.walk else {}
    stated |= {"safety_identifier": wanted.identifier} if wanted.identifier else {}
    pictures = {"image": wanted.image} | ({} if wanted.mask is None else {"mask": wanted.mask})
    return stated, pictures | {f"{REFERENCE}{i}": one for i, one in enumerate(wanted.references)}


async def _more_asked(request: Request, limits: Limits, data: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """n, and the `index` of edits to be unlike, of those of a set, whose entries are `data`; None: all."""
    fields = await read_json(request, limits)
    for name in fields:
        if name not in ("n", "unlike"):
            raise Refused(
                f"There is no parameter {name[:60]!r}: give n and unlike.", name[:60], code="unknown_parameter"
            )
    n, unlike = fields.get("n"), fields.get("unlike")
    index = None if unlike is None else Indices()("unlike", unlike)
    check_index("unlike", index, data)
    return {"n": 4 if n is None else Whole(1, limits.n)("n", n), "unlike": index}


async def _accepted(request: Request, jobs: Jobs, stated: Mapping[str, Any], pictures: Mapping[str, bytes]) -> Response:
    owner = request.state.owner
    job = await asyncio.to_thread(jobs.accept, owner, stated, pictures, key_of(request))
    request.state.note.update(job=job)
    about = await asyncio.to_thread(jobs.about, job, owner)
    return JSONResponse(about, 202, {"location": f"/v1/jobs/{job}"})


async def _news(jobs: Jobs, job: str, owner: str | None, seen: int) -> AsyncIterator[bytes]:
    """Edit k is event k, also when the job was broken off and taken up again; the end is the last one. A server that
    is stopped tells no more: the next one does."""
    quiet = 0.0
    while jobs.ends is None:
        try:
            about = await asyncio.to_thread(jobs.about, job, owner)  # before what is told, so that nothing is missed
        except Refused:  # it is kept no longer
            return
        told = await asyncio.to_thread(jobs.shelf.told, job)
        for number in range(seen + 1, len(told) + 1):
            yield event("job.edit", told[number - 1], number)
            seen, quiet = number, 0.0
        if about["status"] in ENDED:
            if seen <= len(told):
                yield event(f"job.{about['status']}", about, len(told) + 1)
            return
        await asyncio.sleep(POLL)
        quiet += POLL
        if quiet > SIGN:
            yield b": nothing new\n\n"
            quiet = 0.0


def _file(jobs: Jobs, name: str, owner: str | None, file: str) -> Path:
    job = job_of(name)
    if jobs.find(job, owner) is None:
        raise Refused(f"There is no set {name[:40]!r}.", status=404, code="set_not_found")
    found = jobs.shelf.file(job, file)
    if found is None:
        status = jobs.about(job, owner)["status"]
        raise Refused(f"The job of this set is {status}, and has no such file.", status=404, code="file_not_found")
    return found
