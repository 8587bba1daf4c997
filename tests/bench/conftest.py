"""The commands of the bench, which are a plugin's, added when the program starts."""

import pytest
from ctxrep_plugins.bench.faithful.command import faithful
from ctxrep_plugins.bench.real.command import real
from ctxrep_plugins.bench.spread.command import spread

from ctxrep_edit import cli


@pytest.fixture(autouse=True)
def command() -> None:
    cli.bench.commands.setdefault("spread", spread)
    cli.bench.commands.setdefault("faithful", faithful)
    cli.bench.commands.setdefault("real", real)
