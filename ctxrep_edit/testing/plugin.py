"""The conformance kit for the plugin as a whole."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import pytest

from ctxrep_edit.errors import PluginError
from ctxrep_edit.plugins import catalog, loading
from ctxrep_edit.plugins.hookspecs import API_VERSION, PROJECT
from ctxrep_edit.testing.processes import imports_no_torch
from ctxrep_edit.testing.strategies import has_name_and_summary

HOOKS = tuple(shelf.hook for shelf in catalog.SHELVES)
MARK = f"{PROJECT}_impl"  # what hookimpl leaves on a function


class PluginConformance:
    """Holds a plugin's module to the seam. Override `module`."""

    @pytest.fixture
    def module(self) -> str:
        """The name of the module that the entry point names."""
        pytest.fail("Override the fixture `module`: it gives the name of the module that the entry point names.")

    def test_importing_it_imports_no_torch(self, module: str) -> None:
        """Nor does asking it what it brings."""
        imports_no_torch(module, HOOKS)

    def test_it_states_an_api_version_that_is_supported(self, module: str) -> None:
        stated = getattr(importlib.import_module(module), "ctxrep_api", None)
        assert stated is not None, f'{module} does not state its API version: write ctxrep_api = "{API_VERSION}".'
        try:
            loading.check_api(stated)
        except PluginError as error:
            pytest.fail(f"{module} states an API version that is not supported: {error}.")

    def test_its_hooks_are_those_of_the_specification(self, module: str) -> None:
        loaded = importlib.import_module(module)
        forgotten = [name for name in HOOKS if hasattr(loaded, name) and not hasattr(getattr(loaded, name), MARK)]
        assert not forgotten, f"{module}.{forgotten[0]} is not decorated with ctxrep_edit.hookimpl."
        try:
            loading.validate(loaded, module)
        except PluginError as error:
            pytest.fail(str(error))

    def test_what_it_brings_is_what_its_hooks_promise(self, module: str) -> None:
        loaded = importlib.import_module(module)
        for shelf in catalog.SHELVES:
            for thing in _brought(loaded, shelf.hook):
                assert isinstance(thing, shelf.kind), (
                    f"{shelf.hook} gives {thing!r}, which is no instance of {shelf.kind.__name__}."
                )
                if shelf is not catalog.ADAPTERS:
                    has_name_and_summary(thing)

    def test_its_names_are_its_own(self, module: str) -> None:
        """No name is brought twice, by this plugin or by another that is installed."""
        loaded = importlib.import_module(module)
        for shelf in catalog.SHELVES:
            mine = Counter(thing.name for thing in _brought(loaded, shelf.hook))
            for name, times in mine.items():
                assert times == 1, f"It brings the {shelf.what} {name!r} {times} times."
                for record, _ in shelf.claims().get(name, ()):
                    theirs = record.source.partition(":")[0] != module
                    assert not theirs, f"{record.title} brings a {shelf.what} {name!r} already: choose another name."
        for adapter in _brought(loaded, catalog.ADAPTERS.hook):
            for pipeline in adapter.pipelines:
                for record, other in catalog.drivers().get(pipeline, ()):
                    theirs = record.source.partition(":")[0] != module
                    assert not theirs, f"{record.title} drives {pipeline} already, with the adapter {other.name!r}."


def _brought(module: ModuleType, hook: str) -> Iterable[Any]:
    return list(getattr(module, hook, tuple)())
