"""What plugins provide, by name. Nothing here depends on the order in which they were installed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from ctxrep_edit.errors import InputError, PluginError, UnknownPipeline
from ctxrep_edit.plugins import loading
from ctxrep_edit.plugins.adapter import Adapter
from ctxrep_edit.plugins.contracts import Check, EmbeddedModel, Embedder, Exporter, Strategy
from ctxrep_edit.plugins.members import MEMBERS

T = TypeVar("T")
Claims = dict[str, list[tuple[loading.Record, T]]]  # by name, everyone who claims it


@dataclass(frozen=True)
class Shelf(Generic[T]):
    """Everything of one kind: what it is called, the hook that brings it, and its class."""

    what: str
    hook: str
    kind: type[T]

    def all(self) -> dict[str, T]:
        """All of them by name, without names that two plugins claim."""
        return {name: entries[0][1] for name, entries in self.claims().items() if len(entries) == 1}

    def get(self, given: str | T) -> T:
        """The one of that name, or `given` itself. Raises InputError, or PluginError where two plugins provide it."""
        if isinstance(given, self.kind):
            return given
        claims = self.claims()
        if not isinstance(given, str) or given not in claims:
            known = ", ".join(sorted(claims))
            raise InputError(f"There is no {self.what} {given!r}: choose one of {known}, or give one of your own.")
        return one(f"provide the {self.what}", given, claims[given])

    def claims(self) -> Claims[T]:
        """What each plugin brings, by name. A plugin that brings anything else is left out."""
        claims: Claims[T] = {}
        for record, brought in loading.results(self.hook):
            try:
                mine = self._checked(brought)
            except Exception as error:  # whatever its attributes do
                loading.leave_out(record, error)
                continue
            for name, thing in mine.items():
                claims.setdefault(name, []).append((record, thing))
        return claims

    def _checked(self, brought: Any) -> dict[str, T]:
        """What one plugin brings, by name. Raises PluginError, which says what is wrong with it."""
        if not isinstance(brought, list):
            raise PluginError(f"Its {self.hook} gives {brought!r} instead of a list")
        kind: Any = self.kind
        for thing in brought:
            if not isinstance(thing, kind):
                raise PluginError(f"Its {self.hook} gives {thing!r}, which is no instance of {kind.__name__}")
            for member in kind.__annotations__:
                if not hasattr(thing, member):
                    raise PluginError(f"Its {self.hook} gives a {type(thing).__name__} that has no {member}")
            if not isinstance(thing.name, str) or not thing.name:
                raise PluginError(f"Its {self.hook} gives a {type(thing).__name__} called {thing.name!r}")
            for member, (fits, wanted) in MEMBERS.get(kind, {}).items():
                if not fits(value := getattr(thing, member)):
                    raise PluginError(f"Its {self.what} {thing.name} has the {member} {value!r}: write {wanted}")
        classes = [name for thing in brought if isinstance(thing, Adapter) for name in thing.pipelines]
        for what, names in (("are called", [thing.name for thing in brought]), ("drive", classes)):
            for i, name in enumerate(names):
                if name in names[:i]:
                    raise PluginError(f"Its {self.hook} gives two that {what} {name}")
        return {thing.name: thing for thing in brought}


ADAPTERS = Shelf("adapter", "ctxrep_adapters", Adapter)  # type: ignore[type-abstract]
MODELS = Shelf("embedded model", "ctxrep_models", EmbeddedModel)
"""The embedded models that are installed."""
STRATEGIES = Shelf("strategy", "ctxrep_strategies", Strategy)  # type: ignore[type-abstract]
"""The strategies that are installed."""
CHECKS = Shelf("check", "ctxrep_checks", Check)  # type: ignore[type-abstract]
"""The checks that are installed."""
EMBEDDERS = Shelf("embedder", "ctxrep_embedders", Embedder)  # type: ignore[type-abstract]
"""The embedders that are installed."""
EXPORTERS = Shelf("exporter", "ctxrep_exporters", Exporter)  # type: ignore[type-abstract]
"""The exporters that are installed."""
SHELVES = (ADAPTERS, MODELS, STRATEGIES, CHECKS, EMBEDDERS, EXPORTERS)


def pipelines() -> dict[str, Adapter]:
    """Every adapter by the pipeline class that it drives, without classes that two claim."""
    return {name: entries[0][1] for name, entries in drivers().items() if len(entries) == 1}


def adapter_for(pipeline: Any) -> Adapter:
    """The adapter of a pipeline's class or of its nearest base class. Raises UnknownPipeline, with the reason where one
    is known, or PluginError where two adapters claim that class."""
    known, not_possible = drivers(), refused()
    for base in type(pipeline).__mro__:
        if base.__name__ in known:
            return one("drive", base.__name__, known[base.__name__])
        if base.__name__ in not_possible:
            raise UnknownPipeline(f"{type(pipeline).__name__} cannot be driven: {not_possible[base.__name__]}.")
    raise UnknownPipeline(
        f"No adapter drives {type(pipeline).__name__}. Known pipelines: {', '.join(sorted(known))}. "
        "To add one, subclass ctxrep_edit.Adapter and register it: see docs/plugins/adapters.md."
    )


def refused() -> dict[str, str]:
    """Pipeline classes that cannot be driven, by name, and why. A plugin that gives anything else is left out."""
    found: dict[str, str] = {}
    for record, brought in loading.results("ctxrep_refused"):
        try:
            pairs = [(name, reason) for name, reason in brought]
        except (TypeError, ValueError):
            pairs = [(brought, None)]
        if all(isinstance(text, str) and text for pair in pairs for text in pair):
            found.update(pairs)
        else:
            error = PluginError("Its ctxrep_refused gives something else than pairs of name and reason")
            loading.leave_out(record, error)
    return found


def one(does: str, name: str, claims: list[tuple[loading.Record, T]]) -> T:
    """The only claim. Raises PluginError, which names both and says how to choose, where there are two."""
    if len(claims) > 1:
        first, second = claims[0][0], claims[1][0]
        raise PluginError(f"Two plugins {does} {name}: {loading.both(first, second)}")
    return claims[0][1]


def drivers() -> Claims[Adapter]:
    """By the name of each pipeline class, every adapter that claims it."""
    claims: Claims[Adapter] = {}
    for entries in ADAPTERS.claims().values():
        for record, adapter in entries:
            for pipeline in adapter.pipelines:
                claims.setdefault(pipeline, []).append((record, adapter))
    return claims


def embedded_at(origin: str) -> EmbeddedModel | None:
    """The embedded model whose folder that is; None where it is none's."""
    place = Path(origin).resolve() if origin else None
    return next((model for model in MODELS.all().values() if model.folder.resolve() == place), None)
