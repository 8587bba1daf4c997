"""The body of a request: a form with files, or JSON with pictures as data: URLs. Nothing in it is ever fetched."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from ctxrep_plugins.server.parameters import FILES, Limits
from ctxrep_plugins.server.refusals import Refused
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

MOST_FILES, MOST_FIELDS = 9, 64
MOST_VALUES = 2**17
"""Of JSON, counted by its commas; all texts together have fewer."""
SMALL = 2**16
"""Bytes of a body without pictures."""
LISTS = ("vary", "unlike[index]", "between[index]")
"""Parameters that are lists, also where they are given once."""
SEVERAL = ("preserve",)
"""Parameters that are lists where they are given several times."""
PARTS = re.compile(r"(unlike|like|between)\[(set|index|count|beyond)\]")
"""Parts of an object, as a form has them."""

Files = dict[str, list[bytes]]


async def read(request: Request, limits: Limits) -> tuple[dict[str, Any], Files]:
    """The fields, by name, and the pictures. Raises `Refused`."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        async with asyncio.timeout(limits.seconds):
            if kind == "multipart/form-data":
                return await _form(request)
            if kind == "application/json":
                return await asyncio.to_thread(_json, await request.body())  # which may be large
    except TimeoutError:
        raise Refused(f"The request took more than {limits.seconds:g} seconds to arrive.", status=408) from None
    except ClientDisconnect:
        raise Refused("The request was cut off.", status=400) from None
    raise Refused("The body must be multipart/form-data or application/json.", status=415)


async def read_json(request: Request, limits: Limits) -> dict[str, Any]:
    """A small JSON object; none at all is an empty one. Raises `Refused`."""
    body = b""
    try:
        async with asyncio.timeout(limits.seconds):
            async for part in request.stream():
                body += part
                if len(body) > SMALL:
                    message = f"The body is longer than the {SMALL} bytes that are taken."
                    raise Refused(message, status=413, code="body_too_large")
    except (TimeoutError, ClientDisconnect):
        raise Refused("The request was cut off.", status=408) from None
    return _object(body) if body else {}


def key_of(request: Request) -> str | None:
    """The Idempotency-Key. Raises `Refused`."""
    key = request.headers.get("idempotency-key")
    if key is not None and not 1 <= len(key) <= 255:
        raise Refused("The Idempotency-Key must have 1 to 255 letters.", "Idempotency-Key")
    return key


async def _form(request: Request) -> tuple[dict[str, Any], Files]:
    fields: dict[str, list[str]] = defaultdict(list)
    files: Files = defaultdict(list)
    try:
        async with request.form(max_files=MOST_FILES, max_fields=MOST_FIELDS) as form:
            for key, value in form.multi_items():
                name = key.removesuffix("[]")
                if isinstance(value, UploadFile):
                    if name not in FILES:
                        raise Refused(f"{name[:60]!r} is no picture: send image and mask only as files.", name[:60])
                    files[name].append(await value.read())
                else:
                    fields[name].append(value)
    except HTTPException as error:
        raise Refused(f"The form cannot be read: {error.detail}") from None
    return _whole({name: _one(name, values) for name, values in fields.items()}), dict(files)


def _whole(fields: Mapping[str, Any]) -> dict[str, Any]:
    """With objects put together from their parts."""
    found = {name: value for name, value in fields.items() if not PARTS.fullmatch(name)}
    for name, value in fields.items():
        if part := PARTS.fullmatch(name):
            if part[1] in fields:
                raise Refused(f"{part[1]} is given twice: give it once.", part[1])
            found.setdefault(part[1], {})[part[2]] = value
    return found


def _one(name: str, values: Sequence[str]) -> Any:
    if name in LISTS or (name in SEVERAL and len(values) > 1):
        return list(values)
    if len(values) > 1:
        raise Refused(f"{name[:60]} is given {len(values)} times: give it once.", name[:60])
    return values[0]


def _object(body: bytes) -> dict[str, Any]:
    if body.count(b",") > MOST_VALUES:  # which nothing but the parser would count, and it lets nothing else be done
        raise Refused(f"The body has more than {MOST_VALUES} values, which no request needs.")
    try:
        fields = json.loads(body, object_pairs_hook=_pairs)
    except (ValueError, RecursionError):
        raise Refused("The body is no JSON.") from None
    if not isinstance(fields, dict):
        raise Refused("The body must be a JSON object.")
    return fields


def _json(body: bytes) -> tuple[dict[str, Any], Files]:
    fields = _object(body)
    images = fields.pop("images", None)
    if images is not None:
        if fields.get("image") is not None:
            raise Refused("image is given twice, also as images: give it once.", "image")
        fields["image"] = images
    files: Files = {}
    for name in FILES:
        given = fields.pop(name, None)
        if given is not None:
            many = given if isinstance(given, list) else [given]
            files[name] = [_decoded(one, name) for one in many[: MOST_FILES + 1]]
    return fields, {name: pictures for name, pictures in files.items() if pictures}


def _pairs(pairs: Sequence[tuple[str, Any]]) -> Mapping[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Refused("The body names a parameter twice: give it once.")
    return found


def _decoded(value: Any, name: str) -> bytes:
    """The bytes of a data: URL, alone or as the `image_url` of an object."""
    url = value.get("image_url") if isinstance(value, dict) and len(value) == 1 else value
    if not isinstance(url, str):
        raise Refused(f"{name} must be a picture as a data: URL.", name)
    head, comma, data = url.partition(",")
    if not comma or not head.lower().startswith("data:") or not head.lower().endswith(";base64"):
        raise Refused(
            f"{name} must be a picture as a data: URL, data:image/png;base64,...: no address or path is followed.", name
        )
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise Refused(f"{name} is not valid base64.", name) from None
