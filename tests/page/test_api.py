"""What the page asks of a server whose connections break."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import pytest
from ctxrep_plugins.page import api
from ctxrep_plugins.page.api import Api

from ctxrep_edit import ModelError

SIGN, END = b": nothing new\n\n", b'id: 1\nevent: job.completed\ndata: {"status": "completed"}\n\n'


class Broken(httpx.SyncByteStream):
    """Says something, is quiet for longer than the page has patience, and breaks off."""

    def __init__(self, said: bytes = b"") -> None:
        self.said = said

    def __iter__(self) -> Iterator[bytes]:
        yield self.said
        time.sleep(1.5)
        raise httpx.ReadError("broken off")


def asking(monkeypatch: pytest.MonkeyPatch, *answers: httpx.SyncByteStream) -> Api:
    """Of a server that answers so, and then is there no longer."""
    left = iter(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        stream = next(left, None)
        if stream is None:
            raise httpx.ConnectError("nobody there")
        return httpx.Response(200, stream=stream)

    monkeypatch.setattr(api, "PATIENCE", 1.0)
    made = Api("http://127.0.0.1:9")
    made._http = httpx.Client(base_url=made.url, transport=httpx.MockTransport(answer))
    return made


def test_a_quiet_connection_that_breaks_is_taken_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often: the job may wait for long, and a proxy may end what is quiet."""
    asked = asking(monkeypatch, Broken(), Broken(SIGN), Broken(SIGN), httpx.ByteStream(END))
    assert list(asked.news("job-1")) == [("job.completed", {"status": "completed"})]


def test_a_server_that_is_gone_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = time.monotonic()
    with pytest.raises(ModelError, match="does not answer"):
        list(asking(monkeypatch, Broken(SIGN)).news("job-1"))
    assert time.monotonic() - begun > 2.5
