"""`ctxrep-edit bench`: spread, faithfulness and cost, measured on the embedded models, whose truth is known; and the
checks, on edits that somebody labelled."""

from __future__ import annotations

import click

from ctxrep_edit import hookimpl

ctxrep_api = "1.0"


@hookimpl
def ctxrep_commands(bench: click.Group) -> None:
    from ctxrep_plugins.bench.cost import cost
    from ctxrep_plugins.bench.faithful.command import faithful
    from ctxrep_plugins.bench.real.command import real
    from ctxrep_plugins.bench.spread.command import spread

    for command in (spread, faithful, real, cost):
        bench.add_command(command)
