"""`ctxrep-edit calibrate`: finds settings of the repulsion on the caller's own model, without knowing what is right."""

from __future__ import annotations

import click

from ctxrep_edit import hookimpl

ctxrep_api = "1.0"


@hookimpl
def ctxrep_commands(cli: click.Group) -> None:
    from ctxrep_plugins.calibrate.command import calibrate

    cli.add_command(calibrate)
