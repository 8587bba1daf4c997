"""`ctxrep-edit bench`: spread, faithfulness and cost, measured on the embedded models, whose truth is known."""

from __future__ import annotations

import click

from ctxrep_edit import hookimpl

ctxrep_api = "1.0"


@hookimpl
def ctxrep_commands(bench: click.Group) -> None:
    from ctxrep_plugins.bench.cost import cost
    from ctxrep_plugins.bench.faithful.command import faithful
    from ctxrep_plugins.bench.spread.command import spread

    for command in (spread, faithful, cost):
        bench.add_command(command)
