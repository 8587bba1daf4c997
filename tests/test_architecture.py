"""The core keeps its layout: imports go down, files and functions stay short, plugins come in by the public door."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

import ctxrep_edit.testing

ROOT = Path(__file__).parents[1]
CORE = sorted((ROOT / "ctxrep_edit").rglob("*.py"))
STRANGERS = sorted(path for folder in ("adapters", "plugins", "examples") for path in (ROOT / folder).rglob("*.py"))
PAGE = ROOT / "docs" / "architecture.md"


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def script() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("architecture", ROOT / "docs" / "site" / "architecture.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_contracts_of_pyproject_hold() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as go; go()", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_at_most_nine_floors(script: types.ModuleType) -> None:
    height = script.floors(script.between_wings(script.read().run))
    assert height[script.TOP] - height[script.BOTTOM] + 1 <= 9


def test_no_file_imports_in_a_circle_at_run_time(script: types.ModuleType) -> None:
    house = script.read()
    assert script.circles(script.within(house.run)) == []
    assert script.circles(script.between_wings(house.run)) == []


def test_circles_for_types_are_those_that_the_page_lists(script: types.ModuleType) -> None:
    house = script.read()
    listed = re.findall(r"^\| `([\w.]+)` \| `([\w.]+)` \| [^|]+ \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    listed = [tuple(f"ctxrep_edit.{module}" for module in arrow) for arrow in listed]
    assert sorted(listed) == script.upward(house)
    rest = (house.run | house.types) - set(listed)
    assert script.circles(script.within(rest)) == []
    assert script.circles(script.between_wings(rest)) == []


def test_circles_are_found(script: types.ModuleType) -> None:
    arrows = {("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("e", "e")}
    assert script.circles(arrows) == [["a", "b", "c"], ["e"]]
    house = script.House((), frozenset({("ctxrep_edit.a.x", "ctxrep_edit.b")}), frozenset())
    assert script.upward(house) == []
    upward = ("ctxrep_edit.b", "ctxrep_edit.a.y")
    assert script.upward(script.House((), house.run, frozenset({upward}))) == [upward]


def test_the_picture_is_of_the_imports_as_they_are(script: types.ModuleType) -> None:
    drawn = script.draw(script.read())
    assert drawn == script.PICTURE.read_text("utf-8"), "Draw it again: python docs/site/architecture.py"


def test_the_page_describes_every_wing(script: types.ModuleType) -> None:
    described = re.findall(r"^\| `(\w+)(?:/|\.py)` \|", PAGE.read_text("utf-8"), re.MULTILINE)
    assert sorted(described) == sorted(script.floors(script.between_wings(script.read().run)))


def test_what_the_page_names_exists() -> None:
    text = " ".join(PAGE.read_text("utf-8").split())
    for name in re.findall(r"`(\w+/[\w/.-]*)`", text):
        assert (ROOT / name).exists() or (ROOT / "ctxrep_edit" / name).exists(), name
    places = re.findall(r"`([\w/]+\.py)`, `(\w+)`", text)
    assert len(places) > 20
    for name, function in places:
        source = (ROOT / "ctxrep_edit" / name).read_text("utf-8")
        assert re.search(rf"^ *(?:def|class) {function}\b", source, re.MULTILINE), (name, function)


@pytest.mark.parametrize("path", CORE, ids=named)
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text.count("\n") <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[ast.get_docstring(node) is not None :]
            lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            assert lines <= 60, f"{node.name} has {lines} lines"


def taken(tree: ast.AST) -> Iterator[str]:
    """What a file takes from ctxrep_edit, as dotted names; imports for type checkers and inside functions too."""
    modules: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "ctxrep_edit":
            for alias in node.names:
                yield f"{node.module}.{alias.name}"
                modules[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "ctxrep_edit":
                    yield from [alias.name] if "." in alias.name else []
                    modules[alias.asname or "ctxrep_edit"] = alias.name if alias.asname else "ctxrep_edit"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = modules.get(node.value.id)
            if module in ("ctxrep_edit", "ctxrep_edit.testing"):
                yield f"{module}.{node.attr}"


def public() -> set[str]:
    names = {f"ctxrep_edit.{name}" for name in (*ctxrep_edit.__all__, "testing")}
    return names | {f"ctxrep_edit.testing.{name}" for name in ctxrep_edit.testing.__all__}


@pytest.mark.parametrize("path", STRANGERS, ids=named)
def test_adapters_plugins_and_examples_take_public_names_only(path: Path) -> None:
    assert set(taken(ast.parse(path.read_text("utf-8")))) <= public()


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("from ctxrep_edit.plugins import catalog", "ctxrep_edit.plugins.catalog"),
        ("import ctxrep_edit.api", "ctxrep_edit.api"),
        ("import ctxrep_edit as c\nc.api.diverse_edit", "ctxrep_edit.api"),
        ("import ctxrep_edit\ndef f(x: ctxrep_edit.errors.Hidden): ...", "ctxrep_edit.errors"),
        ("def f():\n    from ctxrep_edit import cli", "ctxrep_edit.cli"),
        ("if TYPE_CHECKING:\n    from ctxrep_edit.testing import fakes", "ctxrep_edit.testing.fakes"),
    ],
)
def test_back_doors_are_seen(code: str, name: str) -> None:
    assert name in set(taken(ast.parse(code))) - public()
