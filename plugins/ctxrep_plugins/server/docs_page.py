"""/docs: what /openapi.json says, as a page for people. It needs nothing but itself, so no script and no network."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

STYLE = """
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 54rem; margin: 2rem auto; padding: 0 1rem; }
h2 { font-size: 1rem; margin: 2rem 0 .2rem; overflow-wrap: anywhere; }
p { margin: 0 0 .5rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
td { border-top: 1px solid color-mix(in srgb, currentcolor 20%, transparent); padding: .25rem 1rem .25rem 0; }
td { vertical-align: top; overflow-wrap: anywhere; }
td:first-child { white-space: nowrap; }
"""
ALLOWED = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
HEADERS = {"content-security-policy": f"default-src 'none'; frame-ancestors 'none'; style-src 'sha256-{ALLOWED}'"}


def add_docs(app: FastAPI) -> None:
    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page(app.openapi()), headers=HEADERS)


def page(document: Mapping[str, Any]) -> str:
    """An OpenAPI document as HTML."""
    about = document["info"]
    title = _text(f"{about['title']} {about['version']}")
    asked = "".join(
        line for path, methods in document["paths"].items() for method, one in methods.items()
        for line in _operation(f"{method.upper()} {path}", one)
    )  # fmt: skip
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    return (
        f'<!doctype html><html lang="en"><head>{head}<style>{STYLE}</style></head><body><h1>{title}</h1>{asked}</body>'
    )


def _operation(name: str, stated: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h2><code>{_text(name)}</code></h2><p>{_text(stated['summary'])}.</p>"
    kinds = stated.get("requestBody", {}).get("content", {})
    if kinds:
        schema = next(iter(kinds.values()))["schema"]
        yield f"<p>As {_text(' or '.join(kinds))}:</p><table>"
        for parameter, what in schema["properties"].items():
            needed = " (needed)" if parameter in schema["required"] else ""
            yield f"<tr><td><code>{_text(parameter)}</code></td><td>{_text(said(what) + needed)}</td></tr>"
        yield "</table>"


def said(schema: Mapping[str, Any]) -> str:
    """What a value may be, in words."""
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return ", or ".join(map(said, schema[several]))
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    kind = schema["type"]
    if kind == "array":
        return f"a list, each {said(schema['items'])}"
    if kind == "object":
        return "{" + "; ".join(f"{name}: {said(one)}" for name, one in schema["properties"].items()) + "}"
    if kind in ("integer", "number"):
        low, high = schema.get("minimum"), schema.get("maximum")
        between = "" if low is None else f", {low:g} or more" if high is None else f", {low:g} to {high:g}"
        return ("a whole number" if kind == "integer" else "a number") + between
    if schema.get("format") == "binary":
        return "a file"
    return {"boolean": "true or false"}.get(kind, f"text{_form(schema)}")


def _form(schema: Mapping[str, Any]) -> str:
    if "pattern" in schema:
        return f" like {schema['pattern']}"
    return f" of at most {schema['maxLength']} letters" if "maxLength" in schema else ""


def _text(text: str) -> str:
    return html.escape(text)
