"""`ctxrep-edit page`: a page to ask for different edits of a picture, compare them and ask for more unlike some."""

from __future__ import annotations

import click

from ctxrep_edit import hookimpl

ctxrep_api = "1.0"


@hookimpl
def ctxrep_commands(cli: click.Group) -> None:
    from ctxrep_plugins.page.command import page

    cli.add_command(page)
