"""What the adapters declare of their families, as rows and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ctxrep_edit.plugins import catalog
from ctxrep_edit.plugins.adapter import Adapter

FAMILIES = ("family", "pipelines", "its blocks return", "guidance", "pictures beside", "default", "measured on")
REFUSED = ("pipeline", "why it cannot be driven")
PARTS = {"unconditional": "negative", "conditional": "positive"}


def declared() -> dict[str, Any]:
    """Each family by the name of its adapter, and the pipelines that cannot be driven, as JSON takes it."""
    drivers = {adapter.name: adapter for adapter in catalog.pipelines().values()}
    return {"families": {name: _row(drivers[name]) for name in sorted(drivers)}, "refused": catalog.refused()}


def tables() -> str:
    """The same as two tables of Markdown."""
    stated = declared()
    rows = [(name, *_cells(row)) for name, row in stated["families"].items()]
    return "\n\n".join((_table(FAMILIES, rows), _table(REFUSED, stated["refused"].items())))


def _row(adapter: Adapter) -> dict[str, Any]:
    default = adapter.default
    said = {name: getattr(default, name) for name in default.__dataclass_fields__}
    return {
        "pipelines": list(adapter.pipelines),
        "streams": {blocks: order if order == "joint" else list(order) for blocks, order in adapter.streams.items()},
        "guidance": adapter.guidance if adapter.guidance == "calls" else list(adapter.guidance),
        "references": adapter.references,
        "scopes": {name: scope.summary for name, scope in adapter.scopes.items()},
        "default": {name: value for name, value in said.items() if value is not None},
        "measured_on": adapter.measured_on,
    }


def _cells(row: dict[str, Any]) -> Sequence[str]:
    default, guidance = row["default"], row["guidance"]
    returned = {
        "one joint stream" if order == "joint" else f"({', '.join(order)})": None for order in row["streams"].values()
    }
    return (
        ", ".join(f"`{pipeline}`" for pipeline in row["pipelines"]),
        ", then ".join(returned),
        "two calls" if guidance == "calls" else f"[{', '.join(PARTS[part] for part in guidance)}]",
        str(row["references"]),
        f"`{default['scope']}` at {default.get('strength', 'eta'):g}",
        row["measured_on"] or "random weights",
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))
