"""What the attributes of a plugin's things must be, so that one of the wrong type costs that plugin alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ctxrep_edit.plugins.adapter import Adapter, Scope
from ctxrep_edit.plugins.contracts import Check, EmbeddedModel, Embedder, Exporter, Strategy
from ctxrep_edit.settings import Repulsion, is_count, is_number

Rule = tuple[Callable[[Any], bool], str]  # whether a value fits, and what to write instead


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_natural(value: Any) -> bool:
    return is_count(value) or (is_number(value) and value == 0)


def _are_names(value: Any) -> bool:
    listed = isinstance(value, Sequence | set | frozenset) and not isinstance(value, str | bytes)
    return listed and all(isinstance(name, str) and name for name in value)


def _are_streams(value: Any) -> bool:
    orders = ("joint", ("text", "image"), ("image", "text"))
    return isinstance(value, Mapping) and all(
        _is_text(name) and (tuple(order) if isinstance(order, list) else order) in orders
        for name, order in value.items()
    )


def _are_scopes(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        _is_text(name) and isinstance(scope, Scope) and isinstance(scope.blocks, Mapping) and _is_text(scope.summary)
        for name, scope in value.items()
    )


def _is_guidance(value: Any) -> bool:
    listed = isinstance(value, tuple | list) and len(value) > 0
    return value == "calls" or (listed and all(part in ("conditional", "unconditional") for part in value))


TEXT: Rule = (_is_text, "a string")
FLAG: Rule = (_is_flag, "True or False")
NAMES: Rule = (_are_names, "a tuple of names")
MEMBERS: dict[type, dict[str, Rule]] = {
    Adapter: {
        "pipelines": NAMES,
        "streams": (_are_streams, 'a dict from names to "joint" or a pair of "text" and "image"'),
        "scopes": (_are_scopes, "a dict from names to Scopes"),
        "default": (lambda value: isinstance(value, Repulsion), "a Repulsion"),
        "guidance": (_is_guidance, '"calls" or a tuple of "conditional" and "unconditional"'),
        "measured_on": TEXT,
        "draws_unasked": FLAG,
        "batch": (lambda value: value is None or is_count(value), "None or a whole number >= 1"),
        "decodes_fewer": FLAG,
        "references": (_is_natural, "a whole number >= 0"),
        "may_lack": NAMES,
    },
    EmbeddedModel: {
        "folder": (lambda value: isinstance(value, Path), "a pathlib.Path"),
        "summary": TEXT,
        "knows": (callable, "a function of the instruction"),
        "advice": TEXT,
        "checks": NAMES,
    },
    Strategy: {
        "summary": TEXT,
        "strength": (lambda value: is_number(value) and 0 <= value < math.inf, "a finite number >= 0"),
        "repels": FLAG,
        "extra_seeds": (_is_natural, "a whole number >= 0"),
    },
    Check: {"summary": TEXT},
    Embedder: {
        "summary": TEXT,
        "apart": (lambda value: value is None or (is_number(value) and 0 <= value <= 2), "None or a number 0 to 2"),
    },
    Exporter: {"summary": TEXT},
}
"""By the class of what a plugin brings and the name of the attribute; `name` is tested for all of them alike."""
