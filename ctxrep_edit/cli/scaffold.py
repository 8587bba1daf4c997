"""Writes the skeleton of a plugin: a distribution of its own, whose tests pass as it stands.

The texts are in `templates/`; `examples/ctxrep-edit-hello` is what they make of that name.
"""

from __future__ import annotations

import importlib.util
import keyword
import os
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template

from ctxrep_edit.errors import InputError, OutputError
from ctxrep_edit.plugins import loading
from ctxrep_edit.plugins.hookspecs import API_VERSION
from ctxrep_edit.results.aside import aside

KINDS = {  # the hook that registers it, and what it is for
    "adapter": ("ctxrep_adapters", "drives a family of pipelines"),
    "strategy": ("ctxrep_strategies", "moves the candidates apart"),
    "check": ("ctxrep_checks", "judges the edits"),
    "embedder": ("ctxrep_embedders", "a feature space for the Vendi score"),
    "exporter": ("ctxrep_exporters", "a form in which a set is written"),
}
USUAL = ("adapter", "strategy", "check")
DISTRIBUTION = re.compile(r"[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9._-]*[A-Za-z0-9]")


def write(name: str, kinds: Sequence[str], folder: Path) -> list[Path]:
    """Writes the distribution `name` with those kinds into a new folder of its name; returns its files.

    kinds: of KINDS, at least one. All or nothing. Raises InputError for a name that cannot be used, OutputError where
    the folder is there already or cannot be written.
    """
    texts, target = render(name, kinds), folder / name
    if os.path.lexists(target):
        raise OutputError(f"There is a {name} in {folder} already: choose another name, or move it away.")
    _free(name)
    try:
        with aside(folder) as work:
            for path, text in texts.items():
                file = work / name / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, "utf-8")
            (work / name).rename(target)
    except OSError as error:
        cause = error.strerror or error
        raise OutputError(f"The folder {folder} cannot be written to: {cause}. Run this in another one.") from error
    return [target / path for path in texts]


def render(name: str, kinds: Sequence[str]) -> dict[str, str]:
    """The files of the distribution `name`, by their path in it. Raises InputError for a name that cannot be used."""
    module, short = _module(name), _short(name)
    prefix = "".join(word.capitalize() for word in short.split("-"))
    if not prefix.isidentifier():  # it starts with a digit
        prefix = "".join(word.capitalize() for word in module.split("_"))
    values = {"name": name, "module": module, "short": short, "Name": prefix}
    chosen = [kind for kind in KINDS if kind in kinds]
    values["parts"] = "\n".join(f"- `{module}/{kind}.py`, {_article(kind)}: {KINDS[kind][1]}" for kind in chosen)

    def text(template: str) -> str:
        return Template((files("ctxrep_edit.cli") / "templates" / f"{template}.txt").read_text("utf-8")).substitute(
            values
        )

    out = {"pyproject.toml": text("pyproject.toml"), "README.md": text("README.md")}
    out[f"{module}/__init__.py"] = _hooks(module, prefix, chosen)
    for kind in chosen:
        out[f"{module}/{kind}.py"] = text(f"{kind}.py")
    if "adapter" in chosen:
        out[f"{module}/pipeline.py"] = text("pipeline.py")
    for test in ("plugin", *chosen):
        out[f"tests/test_{test}.py"] = text(f"test_{test}.py")
    return out


def _module(name: str) -> str:
    """The module of the distribution `name`."""
    if not DISTRIBUTION.fullmatch(name):
        raise InputError(
            f"{name!r} is no name for a distribution: use letters and digits of ASCII and, between them, -, _ and ., "
            "such as ctxrep-edit-hello."
        )
    module = re.sub(r"[-_.]+", "_", name.lower())
    if not module.isidentifier() or keyword.iskeyword(module):
        raise InputError(
            f"{name!r} would be imported as {module}, which Python cannot: try ctxrep-edit-{name.lower()}."
        )
    return module


def _short(name: str) -> str:
    """The plugin's name, which is a bare key of TOML, too."""
    return _dashed(re.sub(r"^ctxrep([-_.]+edit)?[-_.]+", "", name.lower()))


def _dashed(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name)


def _free(name: str) -> None:
    """Raises InputError where the plugin would stand in another's way."""
    module, short = _module(name), _short(name)
    if importlib.util.find_spec(module) is not None:
        raise InputError(f"{name!r} would be imported as {module}, and there is a module of that name already.")
    for record in loading.records():
        if _dashed(record.name) == short:
            raise InputError(f"{name!r} would be the plugin {short}, and there is one already, {record.title}.")


def _hooks(module: str, prefix: str, kinds: Sequence[str]) -> str:
    """The text of the plugin's module."""
    classes = sorted(kind.capitalize() for kind in kinds)
    lines = [
        '"""What this plugin brings. Nothing here imports torch: every start of ctxrep-edit reads this file."""',
        "",
        "from collections.abc import Iterable",
        "",
        f"from ctxrep_edit import {', '.join(classes)}, hookimpl",
        "",
        f'ctxrep_api = "{API_VERSION}"  # the API that it was written for',
    ]
    for kind in kinds:
        given = f"{prefix}{kind.capitalize()}"
        lines += [
            "",
            "",
            "@hookimpl",
            f"def {KINDS[kind][0]}() -> Iterable[{kind.capitalize()}]:",
            f"    from {module}.{kind} import {given}",
            "",
            f"    return [{given}()]",
        ]
    return "\n".join([*lines, ""])


def _article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "ae" else f"a {kind}"
