"""Plugins for tests: entry points that are installed for the time of a test, and plugins made on the spot."""

from __future__ import annotations

import json
import types
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from ctxrep_adapters import flux_kontext
from ctxrep_plugins import standard

from ctxrep_edit import EmbeddedModel, Strategy, cli, hookimpl, hookspecs

HOOKS = [name for name in vars(hookspecs) if name.startswith("ctxrep_")]
Install = Callable[..., None]


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


def model(name: str) -> EmbeddedModel:
    return EmbeddedModel(name, Path(__file__).parent, "", lambda words: True, "")


OURS = (found("flux_kontext", flux_kontext, "ctxrep-edit"), found("standard", standard, "ctxrep-edit"))


def listed() -> dict[str, dict[str, Any]]:
    """What `ctxrep-edit plugins --json` prints, by plugin."""
    result = CliRunner().invoke(cli.cli, ["plugins", "--json"])
    assert result.exit_code == 0, result.output
    return {entry["name"]: entry for entry in json.loads(result.stdout)["plugins"]}
