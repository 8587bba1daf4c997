"""Finds plugins through entry points and answers who drives what."""

from __future__ import annotations

import warnings
from functools import cache
from importlib.metadata import entry_points
from itertools import chain
from typing import TYPE_CHECKING, Any

import pluggy

from ctxrep_edit import hookspecs
from ctxrep_edit.errors import PluginError, UnknownPipeline

if TYPE_CHECKING:
    from ctxrep_edit.adapter import Adapter
    from ctxrep_edit.models import EmbeddedModel


class BrokenPlugin(UserWarning):
    """An installed plugin cannot be loaded; the others are."""


def manager() -> pluggy.PluginManager:
    """The plugin manager with every installed plugin loaded; made once. Warns with BrokenPlugin where one cannot be."""
    return _loaded()[0]


def broken() -> dict[str, str]:
    """The plugins that were left out, by entry point, and why."""
    return _loaded()[1]


@cache
def _loaded() -> tuple[pluggy.PluginManager, dict[str, str]]:
    made = pluggy.PluginManager(hookspecs.PROJECT)
    made.add_hookspecs(hookspecs)
    left_out: dict[str, str] = {}
    for entry in entry_points(group=hookspecs.PROJECT):
        try:
            made.register(entry.load(), entry.name)
            made.check_pending()  # hooks that do not exist
        except Exception as error:  # whatever its import raises
            if made.has_plugin(entry.name):
                made.unregister(name=entry.name)
            left_out[entry.name] = f"{type(error).__name__}: {error}"
            message = (
                f"The plugin {entry.name} ({entry.value}) is left out. {left_out[entry.name]}. Update or uninstall it."
            )
            warnings.warn(message, BrokenPlugin, stacklevel=3)
    return made, left_out


def adapters() -> dict[str, Adapter]:
    """Every adapter by the pipeline class that it drives. Raises PluginError where two claim one class."""
    found: dict[str, Adapter] = {}
    for adapter in chain.from_iterable(manager().hook.ctxrep_adapters()):
        for pipeline in adapter.pipelines:
            if pipeline in found:
                raise PluginError(
                    f"Adapters {found[pipeline].name} and {adapter.name} both drive {pipeline}: uninstall one of them."
                )
            found[pipeline] = adapter
    return found


def models() -> dict[str, EmbeddedModel]:
    """Every embedded model by name. Raises PluginError where two have one name."""
    found: dict[str, EmbeddedModel] = {}
    for model in chain.from_iterable(manager().hook.ctxrep_models()):
        if model.name in found:
            raise PluginError(f"Two plugins provide a model called {model.name}: uninstall one of them.")
        found[model.name] = model
    return found


def adapter_for(pipeline: Any) -> Adapter:
    """The adapter of a pipeline's class or of its nearest base class. Raises UnknownPipeline."""
    known = adapters()
    for base in type(pipeline).__mro__:
        if base.__name__ in known:
            return known[base.__name__]
    raise UnknownPipeline(
        f"No adapter drives {type(pipeline).__name__}. Known pipelines: {', '.join(sorted(known))}. "
        "To add one, subclass ctxrep_edit.Adapter and register it: see docs/adapters.md."
    )
