"""The command line, called in this process."""

from __future__ import annotations

from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from ctxrep_edit import Run, Strategy, cli


def call(*arguments: object) -> Result:
    """The commands alone."""
    return CliRunner().invoke(cli.cli, [str(argument) for argument in arguments])


def broken_off(monkeypatch: pytest.MonkeyPatch, strategy: type[Strategy], at: int) -> None:
    """Has Ctrl-C pressed in the run of that number, from 1, of a strategy."""
    sample, runs = strategy.sample, []

    def stopped(self: Strategy, run: Run) -> Any:
        runs.append(run.n)
        if len(runs) == at:
            raise KeyboardInterrupt
        return sample(self, run)

    monkeypatch.setattr(strategy, "sample", stopped)


def start(*arguments: str) -> Result:
    """As the installed program starts: plugins' commands and one-line errors included."""
    return CliRunner().invoke(click.Command("main", callback=lambda: cli.main(list(arguments))), [])
