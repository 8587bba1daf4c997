"""The documentation says what the code says."""

import inspect
import re
from pathlib import Path

import pytest

from ctxrep_edit import hookspecs

ROOT = Path(__file__).parents[1]
DOCS = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"])
HOOKS = [name for name in vars(hookspecs) if name.startswith("ctxrep_")]
pages = pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_stands_in_the_docs_under_its_signature(name: str) -> None:
    signature = str(inspect.signature(getattr(hookspecs, name))).replace("'", "")
    assert f"### `{name}{signature}`\n" in (ROOT / "docs" / "plugins" / "index.md").read_text("utf-8")


@pages
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), target


@pages
def test_python_blocks_compile(page: Path) -> None:
    for block in re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
        compile(block, str(page), "exec")


def test_the_first_plugin_runs() -> None:
    text = (ROOT / "docs" / "plugins" / "index.md").read_text("utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(block, "docs/plugins/index.md", "exec"), {})
