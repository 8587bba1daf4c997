"""`ctxrep-edit serve`: different good edits over HTTP, as the stock `openai` client asks for them."""

from __future__ import annotations

import click

from ctxrep_edit import hookimpl

ctxrep_api = "1.0"


@hookimpl
def ctxrep_commands(cli: click.Group) -> None:
    from ctxrep_plugins.server.command import new_key, serve

    cli.add_command(serve)
    cli.add_command(new_key)
