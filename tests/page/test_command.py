"""The command: what it needs, what it refuses, and that it leaves nothing behind."""

from __future__ import annotations

import importlib.util
import io
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from command_line import start
from ctxrep_plugins.page import own_server
from ctxrep_plugins.server.keys import add_key, read_keys
from ctxrep_plugins.server.logs import logger
from ctxrep_plugins.server.parameters import Limits
from ctxrep_plugins.server.running import server
from serving import until

RUN = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"  # which a job in the background ignores
    "from ctxrep_edit.cli import main; main()"
)


def test_the_plugin_is_light() -> None:
    code = (
        "import sys, click, ctxrep_plugins.page as p\n"
        "p.ctxrep_commands(click.Group())\n"
        "assert not {'torch', 'gradio', 'httpx', 'PIL'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = start("page")
    assert result.exit_code == 1
    assert "Error: page needs gradio, not installed: pip install 'ctxrep-edit[page]'." in result.output


@contextmanager
def without_model(keys: Mapping[str, str]) -> Iterator[str]:
    """The address of a server with keys and without jobs, whose model is never loaded."""
    made = server("127.0.0.1", 0, keys, Limits(), model="none", queue=1, log=logger(io.StringIO()))
    thread = threading.Thread(target=made.run)
    thread.start()
    until(lambda: made.started)
    yield f"http://127.0.0.1:{made.servers[0].sockets[0].getsockname()[1]}"
    made.should_exit = True
    thread.join(30)


def test_a_server_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = start("page", "--server", "http://127.0.0.1:9", "--model", "kontext-nano").output
    assert "--model is of the server that --server names" in said
    assert "does not answer: see whether it runs" in start("page", "--server", "http://127.0.0.1:9").output
    assert "is no address of a server" in start("page", "--server", "127.0.0.1:8000").output
    key = add_key(tmp_path / "keys.txt", "studio")
    with without_model(read_keys(tmp_path / "keys.txt")) as url:
        assert "There is no such key" in start("page", "--server", url).output
        said = start("page", "--server", f"{url}/v1", "--api-key", key).output
        assert f"The server at {url} takes no jobs: start it with --state FOLDER." in said
    monkeypatch.setattr(own_server, "RUN", "raise SystemExit('Error: There is no model nothing.')")
    assert "Error: The server ended. There is no model nothing." in start("page", "--model", "nothing").output


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is sent as on POSIX")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_its_own_server_and_files_go_with_it(how: signal.Signals, folder: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, "page", "--no-open", "--port", "0", "--model", str(folder)],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("Loading ")
        said = process.stdout.readline()
        assert said.startswith("The page is at http://127.0.0.1:")
        assert httpx.get(said.split()[4]).status_code == 200
        server, *others = psutil.Process(process.pid).children(recursive=True)
        assert others  # its worker
        assert [entry.name for entry in tmp_path.glob("ctxrep-edit-page-*/*")]
        process.send_signal(how)
        assert process.wait(30) == (0 if how == signal.SIGINT else -how)
    finally:
        process.kill()
        process.wait()
    until(lambda: not any(one.is_running() for one in (server, *others)))
    assert not list(tmp_path.glob("ctxrep-edit-page-*"))
    assert tempfile.gettempdir() != str(tmp_path)
