"""The command line: `ctxrep-edit photo.jpg "change the light"`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from ctxrep_edit import __version__
from ctxrep_edit.cli import tools
from ctxrep_edit.cli.edit import edit
from ctxrep_edit.cli.more import more
from ctxrep_edit.cli.process import process
from ctxrep_edit.cli.steering import between, like
from ctxrep_edit.errors import CtxrepError, PluginError
from ctxrep_edit.plugins import loading

if TYPE_CHECKING:
    from click import Group as DefaultGroup

else:
    from click_default_group import DefaultGroup


class _Group(DefaultGroup):
    """Shows an error of ours as one line, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CtxrepError as error:
            raise click.ClickException(str(error)) from error


@click.group(
    cls=_Group, default="edit", default_if_no_args=False, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="ctxrep-edit")
def cli() -> None:
    """Different good edits of one picture.

    \b
    ctxrep-edit photo.jpg "change the light"              six edits, into out/
    ctxrep-edit photo.jpg "add a sticker" --compare       beside six plain ones
    ctxrep-edit more out -n 4 --unlike 2,5                four more, unlike those two
    ctxrep-edit between out 1 4 -n 5                      five from the first to the fourth
    ctxrep-edit like out 3 --spread 0.3                   four variations of the third

    "edit" is understood where no command is named: see ctxrep-edit edit --help.
    """


COMMANDS = edit, more, between, like, tools.assess, tools.models, tools.plugins, tools.new_plugin, tools.weights
for command in (*COMMANDS, tools.doctor):
    cli.add_command(command)


@cli.group()
def bench() -> None:
    """Measure: spread and faithfulness against the truth of the embedded models' world."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: lets plugins add their commands, then runs with `arguments` (None: the process's)."""
    with process():
        try:
            for group in (cli, bench):
                group.commands = _Claimed(group.commands)
            for _ in loading.answers("ctxrep_commands", cli=cli, bench=bench):
                pass
        except CtxrepError as error:
            raise SystemExit(f"Error: {error}") from error
        cli(arguments)


class _Claimed(dict[str, click.Command]):
    """The commands of a group, none of which a plugin can replace."""

    def __setitem__(self, name: str, command: click.Command) -> None:
        if self.get(name, command) is not command:
            raise PluginError(f"It adds a command {name!r}, which there is already")
        super().__setitem__(name, command)
