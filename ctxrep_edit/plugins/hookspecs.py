"""What a plugin may provide. Entry points of group `ctxrep_edit` name modules that implement any of these hooks.

A plugin's module may state `ctxrep_api = "1.0"`, the version of this file that it was written for. Importing it, and
calling the hooks that register something, must not import torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import click

    from ctxrep_edit.plugins.adapter import Adapter
    from ctxrep_edit.plugins.contracts import Check, EmbeddedModel, Embedder, Exporter, Strategy
    from ctxrep_edit.results.edit import Edit
    from ctxrep_edit.results.editset import EditSet

API_VERSION = "1.0"
"""Of this file. Minor: something was added; major: something that plugins rely on was changed or taken away."""
PROJECT = "ctxrep_edit"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def ctxrep_adapters() -> Iterable[Adapter]:  # type: ignore[empty-body]
    """Adapters, one per family of diffusers pipelines."""


@hookspec
def ctxrep_refused() -> Iterable[tuple[str, str]]:  # type: ignore[empty-body]
    """Pipeline classes that cannot be driven, by name, each with the reason as half a sentence."""


@hookspec
def ctxrep_models() -> Iterable[EmbeddedModel]:  # type: ignore[empty-body]
    """Models that ship with the plugin and can be asked for by name."""


@hookspec
def ctxrep_strategies() -> Iterable[Strategy]:  # type: ignore[empty-body]
    """What moves the candidates apart; asked for by name, `diverse_edit(..., strategy=name)`."""


@hookspec
def ctxrep_checks() -> Iterable[Check]:  # type: ignore[empty-body]
    """What judges the edits; asked for by name, `diverse_edit(..., preserve=[name])`."""


@hookspec
def ctxrep_embedders() -> Iterable[Embedder]:  # type: ignore[empty-body]
    """Feature spaces of the Vendi score; asked for by name, `edits.vendi_in(name)`."""


@hookspec
def ctxrep_exporters() -> Iterable[Exporter]:  # type: ignore[empty-body]
    """Forms in which a set is written; asked for by name, `edits.save(folder, [name])`."""


@hookspec
def ctxrep_commands(cli: click.Group, bench: click.Group) -> None:
    """Add sub-commands to the command line `cli`, or to its group `bench` what measures."""


@hookspec
def ctxrep_edit_started(instruction: str, n: int, recipe: Mapping[str, Any]) -> None:
    """A run of `n` candidates for `instruction` is about to begin. recipe: model, strategy and settings, for JSON."""


@hookspec
def ctxrep_candidate_ready(edit: Edit, n: int) -> None:
    """One of `n` candidates is made and judged. They come one call each, as soon as their batch is done."""


@hookspec
def ctxrep_edit_finished(edits: EditSet) -> None:
    """The set is complete. Not called for a run that failed or was interrupted."""
