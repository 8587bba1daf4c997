"""Keys, limits, hostile uploads, and what the log says."""

from __future__ import annotations

import io
import socket
import struct
import threading
import time
import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import tiny
from ctxrep_plugins.server import app
from ctxrep_plugins.server.keys import add_key, owner, read_keys
from ctxrep_plugins.server.parameters import Limits
from PIL import Image
from serving import Place, encoded, serving, until

from ctxrep_edit import InputError


def bomb(side: int) -> bytes:
    """A PNG that says it has side x side pixels, in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def hostile(png: bytes) -> dict[str, bytes]:
    gif, tiff = (encoded(Image.new("RGB", (32, 32)), form) for form in ("GIF", "TIFF"))
    return {
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "cut": png[: len(png) // 2],
        "flipped": png[:60] + bytes(255 - byte for byte in png[60:90]) + png[90:],
        "empty": b"",
        "gif": gif,
        "tiff": tiff,
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "html": b"<html><script>alert(1)</script>",
        "pickle": b"\x80\x04\x95",
        "bomb": bomb(60000),
        "long": bomb(9000),
        "zip": b"PK\x03\x04" + png,
    }


def test_hostile_uploads_are_refused(place: Place, png: bytes) -> None:
    for name, data in hostile(png).items():
        with pytest.raises(openai.BadRequestError) as refused:
            place.client.images.edit(image=("a.png", data), prompt=tiny.WORDS)
        assert refused.value.param == "image", name
        with pytest.raises(openai.BadRequestError) as refused:
            place.client.images.edit(image=("a.png", png), mask=("m.png", data), prompt=tiny.WORDS)
        assert refused.value.param == "mask", name


@pytest.fixture(scope="module")
def guarded(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    file = tmp_path_factory.mktemp("keys") / "keys.txt"
    add_key(file, "other")
    key = add_key(file, "studio")
    with serving(folder, read_keys(file), Limits(body=200_000, pixels=20_000)) as made:
        yield Place(made.url, made.workers, made.log, key)


def test_only_keys_that_are_known_may_ask(guarded: Place, png: bytes) -> None:
    asked: dict[str, Any] = {"image": ("a.png", png), "prompt": tiny.WORDS, "extra_body": {"preserve": "off"}}
    assert guarded.client.images.edit(**asked).data
    for key in ("wrong", guarded.key[:-1], guarded.key + "x"):
        with pytest.raises(openai.AuthenticationError) as refused:
            guarded.client.with_options(api_key=key).images.edit(**asked)
        assert refused.value.code == "invalid_api_key"
    assert guarded.get("/healthz").status_code == 200
    assert guarded.get("/v1/models").status_code == guarded.get("/metrics").status_code == 401


def test_bodies_and_pictures_have_limits(guarded: Place, picture: Image.Image) -> None:
    with pytest.raises(openai.BadRequestError, match=r"0\.02 million") as refused:
        guarded.client.images.edit(image=("a.png", encoded(picture.resize((200, 150)))), prompt=tiny.WORDS)
    assert refused.value.code == "image_too_large"
    headers = {"authorization": f"Bearer {guarded.key}", "content-type": "application/json"}

    def endless() -> Any:  # of no length that it would say
        yield from [b" " * 1000] * 250

    for content in (b" " * 250_000, endless()):
        answer = httpx2.post(f"{guarded.url}/v1/images/edits", content=content, headers=headers)
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "body_too_large"


def test_few_bodies_are_read_at_a_time(place: Place, png: bytes) -> None:
    """So that those which are never sent to their end take no more memory than a few; all else is answered."""
    head = (
        "POST /v1/images/edits HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: 9999\r\n\r\n"
    )
    host, answers = place.url.removeprefix("http://"), list[Any]()

    def ask() -> None:
        asked = {"image": ("a.png", png), "prompt": tiny.WORDS, "extra_body": {"preserve": "off"}}
        answers.append(place.client.images.edit(**asked))  # type: ignore[arg-type]

    client = threading.Thread(target=ask)
    with ExitStack() as stack:
        for _ in range(app.READ):
            half = stack.enter_context(socket.create_connection(("127.0.0.1", int(host.partition(":")[2]))))
            half.sendall(head.format(host).encode() + b"{")
        time.sleep(0.5)
        client.start()
        client.join(2)
        assert not answers
        assert place.get("/healthz").status_code == 200
    client.join(60)
    assert answers[0].data


def test_without_keys_only_this_machine_may_ask(place: Place) -> None:
    others = ({"host": "evil.example"}, {"origin": "https://evil.example"}, {"origin": "null"})
    for headers in (*others, {"host": "["}, {"origin": "http://["}):
        answer = place.get("/v1/models", headers=headers)
        assert answer.status_code == 403, headers
    assert place.get("/v1/models", headers={"origin": place.url}).status_code == 200


def test_every_answer_has_its_id_and_safe_headers(place: Place) -> None:
    ids = set()
    for path in ("/healthz", "/v1/models", "/nothing"):
        headers = place.get(path, headers={"x-request-id": "mine"}).headers
        ids.add(headers["x-request-id"])
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers
    assert len(ids - {"mine"}) == 3


def test_the_log_tells_no_pictures_prompts_or_keys(guarded: Place, png: bytes) -> None:
    with pytest.raises(openai.BadRequestError):
        guarded.client.images.edit(
            image=("private.png", png), prompt="a private matter", extra_body={"scope": "private"}
        )
    until(lambda: any(entry["status"] == 400 for entry in guarded.logged()))
    text = guarded.log.getvalue()
    assert "private" not in text
    assert guarded.key not in text
    entry = next(entry for entry in guarded.logged() if entry["status"] == 400)
    assert (entry["method"], entry["path"], entry["key"]) == ("POST", "/v1/images/edits", "studio")


def test_key_files(tmp_path: Path) -> None:
    file = tmp_path / "keys.txt"
    key = add_key(file, "a")
    assert file.stat().st_mode & 0o077 == 0
    assert key not in file.read_text()
    assert owner(key, read_keys(file)) == "a"
    with pytest.raises(InputError, match="has a key 'a' already"):
        add_key(file, "a")
    for text, words in (("", "holds no key"), ("a plain-key\n", "Line 1"), (file.read_text() * 2, "Line 2")):
        other = tmp_path / "other.txt"
        other.write_text(text)
        with pytest.raises(InputError, match=words):
            read_keys(other)
    with pytest.raises(InputError, match="cannot be read"):
        read_keys(tmp_path / "none.txt")


def test_a_picture_of_another_kind_is_read_upright(place: Place, picture: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    picture.resize((96, 64)).save(stream, "JPEG", exif=exif)
    made = place.client.images.edit(
        image=("a.jpg", stream.getvalue()), prompt=tiny.WORDS, size="32x48", extra_body={"preserve": "off"}
    )
    assert made.size == "32x48"
