"""The documentation says what the code says, and becomes a site."""

from __future__ import annotations

import ast
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pages
import pytest

import ctxrep_edit
from ctxrep_edit.plugins import hookspecs

HOOKS = [name for name in vars(hookspecs) if name.startswith("ctxrep_")]


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_stands_in_the_docs_under_its_signature(name: str) -> None:
    signature = str(inspect.signature(getattr(hookspecs, name))).replace("'", "")
    overview = (pages.PLUGINS / "index.md").read_text("utf-8")
    section = re.search(rf"^### `{re.escape(name + signature)}`\n\n([^#]+)", overview, re.MULTILINE)
    assert section, f"{name}{signature}"
    (page,) = re.findall(r"\]\((\w+\.md)\)", section[1])
    text = (pages.PLUGINS / page).read_text("utf-8")
    assert f"\nHook: `{name}{signature}`\n" in text
    assert f"\ndef {name}(" in text  # in its worked example
    for heading in ("A worked example", "Try it", "The contract", "When it fails"):
        assert f"\n## {heading}\n" in text, (page, heading)


def test_the_overview_names_no_hook_that_there_is_not() -> None:
    assert set(re.findall(r"ctxrep_\w+(?=\()", (pages.PLUGINS / "index.md").read_text("utf-8"))) == set(HOOKS)


@pages.pages
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), target


@pages.pages
def test_files_and_modules_that_a_page_names_are_there(page: Path) -> None:
    text = page.read_text("utf-8")
    for name in re.findall(r"(?<![\w/.-])(?:adapters|ctxrep_edit|docs|examples|plugins|tests)/[\w/.-]*\w", text):
        places = (pages.ROOT, pages.ROOT / "ctxrep_edit", page.parent)  # the last: a link
        assert any((place / name).exists() for place in places), name
    for name in re.findall(r"\bctxrep_(?:adapters|edit|plugins)(?:\.[a-zA-Z]\w*)+", text):
        pkgutil.resolve_name(name)


def test_the_policy_states_the_version_of_the_api() -> None:
    text = (pages.PLUGINS / "stability.md").read_text("utf-8")
    assert f"`ctxrep_edit.API_VERSION`, now {ctxrep_edit.API_VERSION}." in text
    assert f'ctxrep_api = "{ctxrep_edit.API_VERSION}"' in text


def homes() -> dict[str, str]:
    """From each public name to the module that the stub takes it from."""
    stub = ast.parse(Path(ctxrep_edit.__file__).with_suffix(".pyi").read_text("utf-8"))
    froms = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: f"ctxrep_edit.{node.module}" for node in froms for alias in node.names}


@pytest.mark.parametrize("name", ctxrep_edit.__all__)
def test_every_public_name_is_in_the_reference(name: str) -> None:
    lines = (pages.DOCS / "reference.md").read_text("utf-8").splitlines()
    module = homes()[name]
    assert f"::: {module}.{name}" in lines or module == "ctxrep_edit.errors"  # that module stands there whole


def test_the_reference_holds_public_names_only() -> None:
    known = {f"{module}.{name}" for name, module in homes().items()}
    known |= {"ctxrep_edit.errors", "ctxrep_edit.plugins.hookspecs"}  # whole
    known |= {"ctxrep_edit.plugins.catalog.Shelf"}  # what STRATEGIES and the others are
    text = (pages.DOCS / "reference.md").read_text("utf-8")
    assert set(re.findall(r"^::: (\S+)", text, re.MULTILINE)) <= known


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly: a warning is an error."""
    out = tmp_path_factory.mktemp("site")
    command = ["mkdocs", "build", "--strict", "-f", str(pages.DOCS / "site" / "mkdocs.yml"), "-d", str(out)]
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


def test_every_page_is_in_the_site(site: Path) -> None:
    for page in pages.PAGES:
        if not page.is_relative_to(pages.DOCS):
            continue
        name = page.relative_to(pages.DOCS).with_suffix("")
        made = site / (name.parent if name.name == "index" else name) / "index.html"
        title = re.match(r"# (.+)", page.read_text("utf-8"))
        assert title
        assert title[1] in re.sub("<[^>]+>", "", made.read_text("utf-8"))


def test_the_reference_shows_signatures_and_docstrings(site: Path) -> None:
    text = re.sub(r"\s+", " ", re.sub("<[^>]+>", "", (site / "reference" / "index.html").read_text("utf-8")))
    for words in (
        "diverse_edit( image: ImageLike, instruction: str, n: int = 6,",
        "Makes the candidates: run.call() with something done before, around or after each step of it.",
        "ctxrep_candidate_ready(edit: Edit, n: int) -&gt; None",
        "No adapter knows this pipeline class.",
    ):
        assert words in text


def test_the_site_fetches_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text("utf-8")
        assert not re.findall(r"<(?:script|img|iframe)[^>]+src=\"?https?:", text), page
        assert not re.findall(r"<link[^>]+rel=\"?(?:stylesheet|preconnect)\"?[^>]*https?:", text), page
        assert not re.findall(r"<link[^>]+href=\"?https?:[^>]+stylesheet", text), page
