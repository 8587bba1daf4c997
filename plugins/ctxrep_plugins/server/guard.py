"""What stands before the application: request ids, keys, who may ask at all, the size of bodies, headers, the log."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ctxrep_plugins.server import refusals
from ctxrep_plugins.server.keys import owner
from ctxrep_plugins.server.logs import fault
from ctxrep_plugins.server.metrics import Metrics
from ctxrep_plugins.server.parameters import Limits
from ctxrep_plugins.server.refusals import Refused
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ctxrep_edit import encode_json

OPEN = ("/docs", "/healthz", "/openapi.json", "/readyz")
"""What is told without a key."""
HERE = ("127.0.0.1", "::1", "localhost")
UNREAD = 300.0
"""Seconds that a client may leave unread what it is sent, before it is given up."""
SAFE = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Guard:
    """Wraps the application. keys: from names to hashes; None: no key is asked for, and only this machine may ask."""

    def __init__(
        self, app: ASGIApp, keys: Mapping[str, str] | None, limits: Limits, log: Any, metrics: Metrics
    ) -> None:
        self.app, self.keys, self.limits, self.log, self.metrics = app, keys, limits, log, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await (self.app(scope, receive, send) if scope["type"] == "lifespan" else send({"type": "websocket.close"}))
            return
        answer = _Answer(send)
        scope.setdefault("state", {}).update(request_id=answer.id, note={})
        begun = time.monotonic()
        try:
            try:
                scope["state"]["owner"] = self._admitted(scope)
            except Refused as refused:
                await answer.refuse(refused)
            else:
                await self.app(scope, _Counted(receive, self.limits.body), answer)
        except Exception as error:  # what nobody foresaw: the client was told, if it could be
            if answer.unread:
                scope["state"]["note"].update(unread=True)
            else:
                self.log.error("fault", request_id=answer.id, **fault(error))
            if answer.status is None:
                await answer.refuse(refusals.refusal(error, answer.id))
        finally:
            path = getattr(scope.get("route"), "path", None)
            self.metrics.request(path, answer.status)
            self.log.info(
                "request", request_id=answer.id, method=scope["method"], path=path,
                status=answer.status, seconds=round(time.monotonic() - begun, 3), key=scope["state"].get("owner"),
                **scope["state"]["note"],
            )  # fmt: skip

    def _admitted(self, scope: Scope) -> str | None:
        """The name of the key. Raises `Refused`."""
        headers = Headers(scope=scope)
        length = headers.get("content-length", "0")
        if length.isascii() and length.isdigit() and int(length[:20]) > self.limits.body:
            raise _too_long(self.limits.body)
        if self.keys is None:
            _check_near(headers)
            return None
        if scope["path"] in OPEN:
            return None
        scheme, _, key = headers.get("authorization", "").partition(" ")
        name = owner(key.strip(), self.keys) if scheme.lower() == "bearer" else None
        if name is None:
            message = "There is no such key: give one as 'Authorization: Bearer KEY', the api_key of the client."
            raise Refused(message, status=401, code="invalid_api_key")
        return name


def _check_near(headers: Headers) -> None:
    """Raises `Refused` for what a page of another site, or another name of this machine, could have sent."""
    asked, origin = headers.get("host", ""), headers.get("origin")
    try:
        near = urlsplit(f"//{asked}").hostname in HERE and (not origin or urlsplit(origin).netloc == asked)
    except ValueError:  # no address at all
        near = False
    if not near:
        raise Refused("Without keys only this machine may ask, by the name of localhost.", status=403)


def _too_long(most: int) -> Refused:
    return Refused(f"The body is longer than the {most} bytes that are taken.", status=413, code="body_too_large")


class _Counted:
    """Receives, until the body is too long."""

    def __init__(self, receive: Receive, most: int) -> None:
        self.receive, self.most, self.seen = receive, most, 0

    async def __call__(self) -> Message:
        message = await self.receive()
        self.seen += len(message.get("body", b""))
        if self.seen > self.most:
            raise _too_long(self.most)
        return message


class _Answer:
    """Sends, with our headers, and knows what was sent."""

    def __init__(self, send: Send) -> None:
        self.send, self.id = send, f"req-{secrets.token_hex(12)}"
        self.status: int | None = None
        self.unread = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(raw=message["headers"])
            headers["x-request-id"] = self.id
            for name, value in SAFE.items():
                headers.setdefault(name, value)
        try:
            async with asyncio.timeout(UNREAD):
                await self.send(message)
        except TimeoutError:
            self.unread = True
            raise

    async def refuse(self, refused: Refused) -> None:
        body = encode_json(refusals.body(refused), None).encode()
        said = {"content-type": "application/json", "content-length": str(len(body)), **refusals.headers(refused)}
        headers = [(name.encode(), value.encode()) for name, value in said.items()]
        await self({"type": "http.response.start", "status": refused.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})
