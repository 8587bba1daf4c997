"""`ctxrep-edit batch`: sets of many pictures, from a manifest, on this machine or on Ray."""

from __future__ import annotations

import click

from ctxrep_edit import hookimpl

ctxrep_api = "1.0"


@hookimpl
def ctxrep_commands(cli: click.Group) -> None:
    from ctxrep_plugins.batch.command import batch

    cli.add_command(batch)
