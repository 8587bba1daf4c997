"""The documentation as tests see it: pages, their Python blocks, their command lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PLUGINS = DOCS / "plugins"
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def run(page: Path) -> dict[str, Any]:
    """Runs the Python blocks of a page in order, in one namespace, which it returns."""
    text = page.read_text("utf-8")
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for found in FENCE.finditer(text):
        if found[1] == "python":
            lines = text.count("\n", 0, found.start(2))  # so that a traceback names the line of the page
            exec(compile("\n" * lines + found[2], str(page), "exec"), namespace)
    return namespace


def command_lines(page: Path) -> Iterator[str]:
    """Every `ctxrep-edit ...` of a page: lines of its code blocks that are not Python, and inline code."""
    text = page.read_text("utf-8").replace("\\\n", " ")  # a line that goes on is one command
    for language, block in FENCE.findall(text):
        if language != "python":
            yield from re.findall(r"^(?:\$ )?(ctxrep-edit .*)", block, re.MULTILINE)
    prose = FENCE.sub("", text)
    yield from re.findall(r"^ {4}(ctxrep-edit .*)", prose, re.MULTILINE)
    yield from (" ".join(found.split()) for found in re.findall(r"`(ctxrep-edit [^`]+)`", prose))
