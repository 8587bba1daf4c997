"""The request of an edit for /openapi.json, from the same table by which it is read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ctxrep_plugins.server.parameters import Limits, known

REQUIRED = ["image", "prompt"]


def edits_schema(limits: Limits, without: Collection[str] = ()) -> dict[str, Any]:
    """What FastAPI is to say of the body, which it does not read itself. without: parameters that are refused."""
    fields = {name: dict(reader.schema) for name, reader in known(limits).items() if name not in without}
    binary = {"type": "string", "format": "binary"}
    url = {"type": "string", "pattern": "^data:[^,]*;base64,"}
    several = {"oneOf": [binary, {"type": "array", "items": binary, "minItems": 1}]}
    urls = {"oneOf": [url, {"type": "array", "items": url, "minItems": 1}]}
    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": _object({"image": several, "mask": binary, **fields})},
                "application/json": {"schema": _object({"image": urls, "mask": url, **fields})},
            },
        }
    }


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": REQUIRED, "properties": dict(properties), "additionalProperties": False}
