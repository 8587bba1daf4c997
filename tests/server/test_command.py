"""The commands, and what they need."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
import tiny
from command_line import start
from ctxrep_plugins.server import command
from ctxrep_plugins.server.jobs import Jobs
from serving import Place, until

from ctxrep_edit import InputError


def test_the_plugin_is_light() -> None:
    code = (
        "import sys, click, ctxrep_plugins.server as s\n"
        "s.ctxrep_commands(click.Group())\n"
        "assert not {'torch', 'fastapi', 'uvicorn', 'dbos', 'PIL'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "NEEDED", ("click", "there_is_no_such_module"))
    result = start("serve")
    assert result.exit_code == 1
    assert "Error: serve needs there_is_no_such_module, not installed: pip install 'ctxrep-edit[server]'." in (
        result.output
    )


def test_an_address_for_others_wants_keys(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::", "192.168.1.5", "example.org"):
        result = start("serve", "--host", host)
        assert result.exit_code == 1
        assert "so keys are needed" in result.output
    result = start("serve", "--host", "0.0.0.0", "--api-key-file", str(tmp_path / "none"))
    assert "cannot be read" in result.output


def test_devices_of_workers() -> None:
    for words, count in (("2", 2), ("1", 1)):
        assert command._devices(words, "cpu") == ["cpu"] * count
    assert command._devices(None, None) == [None]
    assert command._devices("cuda:0, cuda:1", None) == ["cuda:0", "cuda:1"]
    for words, device in (("0", None), ("65", None), ("cuda:0,", None), ("cuda:0", "cpu"), ("two workers", None)):
        with pytest.raises(InputError, match="must be a number from 1 to 64, or devices"):
            command._devices(words, device)
    result = start("serve", "--per-key", "3")
    assert result.exit_code == 1
    assert "--per-key is for the keys in --api-key-file" in result.output


def test_a_database_that_is_not_there(tmp_path: Path) -> None:
    for given in (("--database", "postgresql://u@127.0.0.1:9/x"), ("--database", "mysql://x", "--state", "x")):
        result = start("serve", *given)
        assert result.exit_code == 1
        assert "Error: --database must be postgresql://" in result.output
    state = ("--state", str(tmp_path / "jobs"))
    result = start("serve", "--port", "0", *state, "--database", "postgresql://u:secret@127.0.0.1:9/x")
    assert result.exit_code == 1
    assert "Error: The database of the jobs cannot be used: connection failed" in result.output
    assert "secret" not in result.output


def test_the_server_itself_works_without_torch() -> None:
    code = (
        "import sys\n"
        "from ctxrep_plugins.server import job_making, job_routes, running\n"
        "from ctxrep_edit import Edit, EditSet, Unfaithful\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_new_key(tmp_path: Path) -> None:
    file = tmp_path / "keys.txt"
    result = start("new-key", str(file), "studio")
    assert result.exit_code == 0
    assert result.stdout.startswith("ctxrep-")
    assert file.read_text().startswith("studio sha256:")


SERVE = """
from ctxrep_edit.cli import main
from ctxrep_plugins.server import running
running.GRACE = 5
main()
"""


def test_it_serves_until_it_is_told_to_end(folder: Path, png: bytes, tmp_path: Path) -> None:
    """Who follows a job is let go at once; a set that is waited for and a job have the grace together, and a job that
    goes on for longer is left to the next process."""
    let_go = dict[str, float]()

    def hear(name: str, method: str, **options: Any) -> None:
        with suppress(httpx2.HTTPError):
            httpx2.request(method, f"{place.url}/v1/{name}", timeout=60, **options)
        let_go[name] = time.monotonic()

    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, "serve", "--port", "0", "--model", folder, "--state", tmp_path],
        stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONWARNINGS": ""},
    )  # fmt: skip
    try:
        assert process.stderr is not None
        said = json.loads(process.stderr.readline())
        assert said["event"] == "listening"
        place = Place(f"http://127.0.0.1:{said['port']}", None, None)  # type: ignore[arg-type]
        words = " ".join([tiny.WORDS] * 20)
        made = place.client.images.edit(image=("a.png", png), prompt=words, extra_body={"preserve": "off"})
        broken = {"content": b"--nonsense", "headers": {"content-type": "multipart/form-data; boundary=secret"}}
        assert httpx2.post(f"{place.url}/v1/images/edits", **broken).status_code == 400
        (warning,) = made.set["warnings"]  # type: ignore[attr-defined]
        assert "not read" in warning or "reads" in warning
        asked = {"data": {"prompt": words, "n": "16", "steps": "200", "batch_size": "1"}, "files": {"image": png}}
        job = httpx2.post(f"{place.url}/v1/jobs", **asked, timeout=60).json()["id"]
        until(lambda: httpx2.get(f"{place.url}/v1/jobs/{job}").json()["status"] == "running")
        follows, waits = (
            threading.Thread(target=hear, args=(f"jobs/{job}/events", "GET")),
            threading.Thread(target=hear, args=("images/edits", "POST"), kwargs=asked),
        )
        for client in (follows, waits):
            client.start()
        until(lambda: "ctxrep_edit_waiting 2.0" in place.get("/metrics").text.splitlines())
    finally:
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=60)
    assert process.returncode == 143
    assert time.monotonic() - begun < 9
    for client in (follows, waits):
        client.join()
    assert let_go[f"jobs/{job}/events"] - begun < 4 < let_go["images/edits"] - begun
    made = Jobs(tmp_path, lambda name, owner: {"data": [], "set": {}, "error": None})
    made.open()
    until(lambda: made.about(job, None)["status"] == "completed")
    assert made.about(job, None)["data"] == []  # by the second one
    made.close()
    said = [json.loads(line) for line in rest.splitlines()]
    assert "library" in [entry["event"] for entry in said]  # the parser of forms complains of the boundary
    assert words not in rest


def test_a_model_that_cannot_be_loaded_ends_it(tmp_path: Path) -> None:
    result = start("serve", "--port", "0", "--model", str(tmp_path))
    assert result.exit_code == 1
    assert "has no model_index.json" in result.stderr.splitlines()[-1]
