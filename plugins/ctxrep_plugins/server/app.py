"""The application: what is asked for under which path."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from ctxrep_plugins.server import answers, refusals
from ctxrep_plugins.server.body import key_of, read
from ctxrep_plugins.server.docs_page import add_docs
from ctxrep_plugins.server.logs import fault
from ctxrep_plugins.server.making import Making, counted
from ctxrep_plugins.server.metrics import CONTENT_TYPE_LATEST, Metrics
from ctxrep_plugins.server.named import places
from ctxrep_plugins.server.parameters import FILES, Limits, Wanted, known, wanted
from ctxrep_plugins.server.pictures import check_form, check_further, check_picture
from ctxrep_plugins.server.refusals import Cancelled, Refused
from ctxrep_plugins.server.schema import edits_schema
from ctxrep_plugins.server.stream import event, events
from ctxrep_plugins.server.workers import Workers
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException

from ctxrep_edit import CtxrepError, InputError, encode_json

if TYPE_CHECKING:
    from ctxrep_plugins.server.jobs import Jobs

GONE = 499
"""Status in the log where the client had left."""
READ = 8
"""Bodies of one owner that are read at a time; further ones stay on the way."""


@dataclass
class Service:
    """What all requests share. model: under which name the pipeline of the workers is offered. failed: why the server
    cannot begin."""

    workers: Workers
    model: str
    limits: Limits
    log: Any
    metrics: Metrics
    started: int = field(default_factory=lambda: int(time.time()))
    decoding: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    reading: dict[str | None, asyncio.Semaphore] = field(
        default_factory=lambda: defaultdict(lambda: asyncio.Semaphore(READ))
    )
    failed: InputError | None = None

    def count(self, making: Making) -> None:
        """A set is made."""
        if making.edits is not None:
            self.metrics.made(counted((*making.edits, *making.edits.dropped)))

    def refused(self, error: Exception, request_id: str) -> Refused:
        """What a client is told of an error; the log, where it is the server's."""
        refused = refusals.refusal(error, request_id, {*known(self.limits), *FILES})
        if refused.status == 500:
            self.log.error("fault", request_id=request_id, **fault(error))
        return refused


def application(service: Service, jobs: Jobs | None = None) -> FastAPI:
    """jobs: where there are any; they are opened with the application, and closed with it."""

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        if jobs is not None:
            try:
                await asyncio.to_thread(jobs.open)
            except InputError as why:
                service.failed = why
                raise
        yield
        if jobs is not None:
            await asyncio.to_thread(jobs.close)

    app = FastAPI(title="ctxrep-edit", version=version("ctxrep-edit"), docs_url=None, redoc_url=None, lifespan=life)
    _tell_errors(app, service)
    _tell_state(app, service)
    add_docs(app)

    @app.post("/v1/images/edits", openapi_extra=edits_schema(service.limits), summary="Different edits of a picture")
    async def edits(request: Request) -> Response:
        owner = request.state.owner
        key = key_of(request)
        if key is None:  # with one it is a job, of which more may wait
            service.workers.check_room(owner)
        asked = await _asked(request, service, jobs)
        if key is not None:
            return await _kept(request, asked, service, jobs, key)
        making = Making(asked, service.workers.sweep)
        service.workers.submit(making.task(owner))
        return await (_streamed if asked.stream else _whole)(request, making, service)

    workers = service.workers
    service.metrics.watch("waiting", "Sets that wait for a worker or are made.", lambda: workers.waiting)
    service.metrics.watch("ready", "Whether a worker is alive that has the model loaded.", lambda: workers.ready)
    service.metrics.workers(workers)
    if jobs is not None:
        from ctxrep_plugins.server.job_routes import add_jobs

        service.metrics.watch("jobs_waiting", "Jobs that wait or are made.", jobs.waiting)
        add_jobs(app, jobs, service.limits, lambda request: _asked(request, service, jobs))
    return app


async def _asked(request: Request, service: Service, jobs: Jobs | None) -> Wanted:
    """What a request wants, its pictures looked at. Raises `Refused`."""
    async with service.reading[request.state.owner]:
        fields, files = await read(request, service.limits)
    asked = wanted(fields, files, service.model, service.limits)
    request.state.note.update(n=asked.n, bytes=len(asked.image))
    async with service.decoding:
        source = await asyncio.to_thread(check_picture, asked.image, "image", service.limits)
        if asked.mask is not None:
            await asyncio.to_thread(check_picture, asked.mask, "mask", service.limits)
        await asyncio.to_thread(check_further, asked.references, service.limits)
    check_form(asked.form, source, service.limits)
    found = await asyncio.to_thread(places, asked.named, jobs, request.state.owner)
    return replace(asked, places=found)


async def _kept(request: Request, asked: Wanted, service: Service, jobs: Jobs | None, key: str) -> Response:
    """What is asked for with an Idempotency-Key. A client that hangs up may ask again, so nothing is ended."""
    if jobs is None:
        message = "An Idempotency-Key needs a server with --state, which keeps what was made: leave it out."
        raise Refused(message, "Idempotency-Key", code="unsupported_parameter")
    if asked.previews:
        message = "partial_images are not kept, so there are none with an Idempotency-Key: leave one of them out."
        raise Refused(message, "partial_images", code="unsupported_parameter")
    from ctxrep_plugins.server.job_routes import laid_down
    from ctxrep_plugins.server.kept import Kept

    stated, pictures = laid_down(asked)
    stated["answer"] = [*asdict(asked.form).items(), asked.regions]
    job = await asyncio.to_thread(jobs.accept, request.state.owner, stated, pictures, key)
    request.state.note.update(job=job)
    kept = Kept(jobs, job, request.state.owner, asked)
    news = kept.events()
    wanted = asyncio.create_task(anext(news) if asked.stream else kept.whole())  # type: ignore[arg-type]
    gone = asyncio.create_task(_hung_up(request))
    await asyncio.wait({wanted, gone}, return_when=asyncio.FIRST_COMPLETED)
    for task in (gone, wanted):
        if not task.done():
            task.cancel()
    if not wanted.done() or wanted.cancelled():
        return Response(status_code=GONE)
    first: Any = wanted.result()
    if asked.stream:
        return StreamingResponse(_body(first, news, request, service), media_type="text/event-stream")
    return Response(first, media_type="application/json")


async def _whole(request: Request, making: Making, service: Service) -> Response:
    """The set, when all of it is there. A client that hangs up ends the run."""
    gone = asyncio.create_task(_left(request, making))
    try:
        async for _ in making.finished():
            pass
    except Cancelled:
        if gone.done():
            return Response(status_code=GONE)
        raise
    finally:
        making.cancel()
        gone.cancel()
    service.count(making)
    text = await asyncio.to_thread(lambda: encode_json(answers.answer(making, service.model), indent=None))
    return Response(text, media_type="application/json")


async def _streamed(request: Request, making: Making, service: Service) -> Response:
    """The edits one by one. What is wrong before the first is there has a status of its own."""
    gone = asyncio.create_task(_left(request, making))
    news = events(making, service.model)
    try:
        first = await anext(news)
    except Cancelled:
        if gone.done():
            return Response(status_code=GONE)
        raise
    except BaseException:
        making.cancel()
        raise
    finally:
        gone.cancel()

    async def body() -> AsyncIterator[bytes]:
        try:
            async for one in _body(first, news, request, service):
                yield one
            service.count(making)
        finally:
            making.cancel()

    return StreamingResponse(body(), media_type="text/event-stream")


async def _body(first: bytes, news: AsyncIterator[bytes], request: Request, service: Service) -> AsyncIterator[bytes]:
    """Events, and what goes wrong between them as one."""
    try:
        yield first
        async for one in news:
            yield one
    except Exception as error:
        yield event("error", refusals.body(service.refused(error, request.state.request_id)))


async def _left(request: Request, making: Making) -> None:
    """Cancels when the client hangs up."""
    await _hung_up(request)
    making.cancel()


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _tell_state(app: FastAPI, service: Service) -> None:
    model = {"id": service.model, "object": "model", "created": service.started, "owned_by": "ctxrep-edit"}

    @app.get("/v1/models", summary="The model")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [model]}

    @app.get("/v1/models/{name:path}", summary="The model, by its name")
    async def model_named(name: str) -> dict[str, Any]:
        if name != service.model:
            raise Refused(f"There is no model {name[:60]!r} here.", "model", status=404, code="model_not_found")
        return model

    @app.get("/healthz", summary="Whether the server answers")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/metrics", summary="For Prometheus")
    async def metrics() -> Response:
        text = await asyncio.to_thread(service.metrics.text)
        return Response(text, headers={"content-type": CONTENT_TYPE_LATEST})

    @app.get("/readyz", summary="Whether a worker is alive that has the model loaded, and what each one does")
    async def ready() -> Response:
        workers = service.workers
        status = "ready" if workers.ready else "failed" if workers.failed else "loading"
        return JSONResponse({"status": status, "workers": workers.states}, 200 if status == "ready" else 503)


def _tell_errors(app: FastAPI, service: Service) -> None:
    def told(request: Request, error: Exception) -> Response:
        refused = service.refused(error, request.state.request_id)
        return JSONResponse(refusals.body(refused), refused.status, refusals.headers(refused))

    @app.exception_handler(CtxrepError)
    async def ours(request: Request, error: CtxrepError) -> Response:
        return told(request, error)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        answer = told(
            request, Refused(f"{request.method} {request.url.path[:60]}: {error.detail}.", status=error.status_code)
        )
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> Response:
        refused = refusals.refusal(error, request.state.request_id)  # the guard logs it
        return JSONResponse(refusals.body(refused), refused.status)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return told(request, Refused("The request cannot be read: see /openapi.json."))
