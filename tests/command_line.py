"""The command line, called in this process."""

from __future__ import annotations

import click
from click.testing import CliRunner, Result

from ctxrep_edit import cli


def call(*arguments: object) -> Result:
    """The commands alone."""
    return CliRunner().invoke(cli.cli, [str(argument) for argument in arguments])


def start(*arguments: str) -> Result:
    """As the installed program starts: plugins' commands and one-line errors included."""
    return CliRunner().invoke(click.Command("main", callback=lambda: cli.main(list(arguments))), [])
