"""What a plugin may provide. Entry points of group `ctxrep_edit` name modules that implement these hooks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    import click

    from ctxrep_edit.adapter import Adapter
    from ctxrep_edit.models import EmbeddedModel

PROJECT = "ctxrep_edit"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def ctxrep_adapters() -> Iterable[Adapter]:  # type: ignore[empty-body]
    """Adapters, one per family of diffusers pipelines. Importing the plugin must not import torch."""


@hookspec
def ctxrep_models() -> Iterable[EmbeddedModel]:  # type: ignore[empty-body]
    """Models that ship with the plugin and can be asked for by name."""


@hookspec
def ctxrep_commands(cli: click.Group, bench: click.Group) -> None:
    """Add sub-commands to the command line `cli`, or to its group `bench` what measures."""
