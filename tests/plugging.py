"""Plugins for tests: entry points that are installed for the time of a test, and plugins made on the spot."""

from __future__ import annotations

import functools
import json
import types
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from command_line import call
from ctxrep_adapters import flux_kontext
from ctxrep_plugins import standard

from ctxrep_edit import Case, Check, EmbeddedModel, Strategy, Verdict, diverse_edit, hookimpl
from ctxrep_edit.plugins import hookspecs

HOOKS = [name for name in vars(hookspecs) if name.startswith("ctxrep_")]
Install = Callable[..., None]
Register = Callable[..., Any]


class Dist:
    """What importlib.metadata says of a distribution."""

    def __init__(self, name: str) -> None:
        self.name, self.version = name, "1.2"


class Found(EntryPoint):
    """An entry point that gives an object, raises, or imports a module."""

    def load(self) -> Any:
        thing = vars(self)["thing"]
        if isinstance(thing, BaseException):
            raise thing
        return super().load() if thing is None else thing


def found(name: str, thing: Any = None, dist: str = "", value: str = "their.module") -> Found:
    entry = Found(name, value, hookspecs.PROJECT)
    vars(entry).update(thing=thing, dist=Dist(dist or f"{name}-dist"))
    return entry


class Plugin(types.SimpleNamespace):
    def __repr__(self) -> str:
        return "<a plugin>"


def plugin(**members: Any) -> Any:
    """A plugin with these hooks; what is no hook is set as it is."""
    hooks = {k: hookimpl(v) if k.startswith("ctxrep_") and callable(v) else v for k, v in members.items()}
    return Plugin(**hooks)


class Shuffle(Strategy):
    name = "shuffle"
    summary = "another order"

    def sample(self, run: Any) -> Any:
        return run.call().flip(0)

    def __repr__(self) -> str:
        return "<shuffle>"


class Even(Check):
    """Passes every other edit."""

    name = "even"
    summary = "the even ones"
    seen: Case

    def verdicts(self, case: Case) -> list[Verdict]:
        self.seen = case
        return [Verdict(i % 2 == 0, "index", i, 0, f"{i} is {('even', 'odd')[i % 2]}") for i in range(len(case.edits))]


class Nothing(Check):
    """Passes none."""

    name = "nothing"
    summary = "objects to all"

    def verdicts(self, case: Case) -> list[Verdict]:
        return [Verdict(False, "taste", 0.0, 0.0, "ugly")] * len(case.edits)


def model(name: str) -> EmbeddedModel:
    return EmbeddedModel(name, Path(__file__).parent, "", lambda words: True, "")


OURS = (found("flux_kontext", flux_kontext, "ctxrep-edit"), found("standard", standard, "ctxrep-edit"))


def listed() -> dict[str, dict[str, Any]]:
    """What `ctxrep-edit plugins --json` prints, by plugin."""
    result = call("plugins", "--json")
    assert result.exit_code == 0, result.output
    return {entry["name"]: entry for entry in json.loads(result.stdout)["plugins"]}


edit = functools.partial(diverse_edit, instruction="change the light", n=2, seed=7, preserve="off", progress=False)


def cli_edit(photo: Path, folder: Path, *options: object) -> dict[str, Any]:
    """What `ctxrep-edit ... --json` says of the same edits by the model in `folder`, written beside the photo."""
    common = ("-n", 2, "--seed", 7, "--model", folder, "-o", photo.parent / "out", "--no-progress", "--json")
    result = call(photo, "change the light", *common, *options)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)  # type: ignore[no-any-return]
