"""The command."""

from __future__ import annotations

import tempfile
import time
import webbrowser
from contextlib import ExitStack, suppress
from pathlib import Path

import click
from ctxrep_plugins.shared import need

from ctxrep_edit import InputError


@click.command()
@click.option("--server", help="Address of a running server, such as http://127.0.0.1:8000.  [default: starts one]")
@click.option("--api-key", envvar="CTXREP_EDIT_API_KEY", show_envvar=True, help="For a --server with keys.")
@click.option("--model", help="Embedded model, local folder, or hub id.  [default: kontext-nano]")
@click.option("--port", type=click.IntRange(0, 65535), default=7860, show_default=True, help="0 takes a free one.")
@click.option("--open/--no-open", "browser", default=True, show_default=True, help="Open the page in the browser.")
def page(server: str | None, api_key: str | None, model: str | None, port: int, browser: bool) -> None:
    """Choose edits on a page: drop a picture, say what to change, compare, ask for more unlike some.

    Runs until it is interrupted, for this machine only. Without --server it starts 'ctxrep-edit serve' for itself; what
    was made is then forgotten when it ends. See docs/page.md.
    """
    need("page", ["gradio"], "page")
    if server is not None and model is not None:
        raise InputError("--model is of the server that --server names: leave one of them out.")
    from ctxrep_plugins.page.api import Api
    from ctxrep_plugins.page.own_server import own_server
    from ctxrep_plugins.page.running import served

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ctxrep-edit-page-")))
        if server is None:
            name = model or "kontext-nano"
            click.echo(f"Loading {name} ...")
            own = stack.enter_context(own_server(name, folder))
            api, check = own.api(), own.check
        else:
            api, check = Api(server, api_key), _nothing
        stack.callback(api.close)
        url = stack.enter_context(served(api, folder, port))
        with suppress(KeyboardInterrupt):
            click.echo(f"The page is at {url} (Ctrl-C ends it).")
            if browser:
                webbrowser.open(url)
            while True:
                check()
                time.sleep(0.5)


def _nothing() -> None:
    pass
