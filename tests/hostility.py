"""Requests that nobody should send: from the server's own OpenAPI document by Schemathesis, and hostile uploads."""

from __future__ import annotations

import base64
import contextlib
import json
import random
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
import schemathesis
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis.errors import Unsatisfiable
from PIL import Image
from serving import encoded

PATHS = ("/v1/images/edits", "/v1/jobs")
PLAIN = {"prompt": "change the light", "preserve": "off", "steps": "1"}


@dataclass
class Seen:
    """What came back. faults: of requests that a server must not answer so."""

    statuses: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    @property
    def requests(self) -> int:
        return sum(self.statuses.values())

    def note(self, what: str, status: int, text: str) -> None:
        self.statuses[status] += 1
        if (status >= 500 and status != 503) or "Traceback" in text or 'File "' in text:
            self.faults.append(f"{what}: {status} {text[:200]}")


def from_schema(url: str, each: int, chance: int, seen: Seen) -> None:
    """About `each` requests to each operation that the OpenAPI document names: valid ones, and others."""
    modes = list(schemathesis.GenerationMode)
    budget = settings(
        max_examples=max(1, each // len(modes)), deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck), verbosity=Verbosity.quiet,
    )  # fmt: skip
    for found in schemathesis.openapi.from_url(f"{url}/openapi.json").get_all_operations():
        operation = found.ok()
        for mode in modes if operation.body else modes[:1]:  # a path is searched for wrong ones in vain
            _send(operation, mode, budget, chance, seen)


def _send(operation: Any, mode: Any, budget: settings, chance: int, seen: Seen) -> None:
    @seed(chance)
    @budget
    @given(case=operation.as_strategy(generation_mode=mode))
    def call(case: Any) -> None:
        answer = case.call(timeout=60)
        seen.note(operation.label, answer.status_code, answer.text)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(Unsatisfiable):  # there are none of this kind
            call()


def from_corpus(url: str, count: int, chance: int, seen: Seen) -> None:
    """`count` uploads and bodies, of each kind in turn."""
    dice = random.Random(chance)
    with httpx2.Client(base_url=url, timeout=60) as client:
        for number, (what, options) in zip(range(count), _requests(dice), strict=False):
            path = PATHS[number % 7 == 0]
            try:
                answer = client.post(path, **options)
            except (httpx2.RemoteProtocolError, httpx2.WriteError, httpx2.LocalProtocolError):
                seen.statuses[0] += 1  # cut off while it was sent
                continue
            seen.note(f"{path} {what}", answer.status_code, answer.text)


def _requests(dice: random.Random) -> Iterator[tuple[str, dict[str, Any]]]:
    files, odd = pictures(), values()
    good = encoded(Image.new("RGB", (32, 32), "teal"))
    while True:
        name, data = dice.choice([*files.items()])
        if dice.random() < 0.4:
            name, data = f"{name}, cut or flipped", _damaged(data, dice)
        yield f"image {name}", {"data": PLAIN, "files": {"image": data}}
        yield f"mask {name}", {"data": PLAIN, "files": {"image": good, "mask": data}}
        yield f"further {name}", {"data": PLAIN, "files": [("image[]", good), ("image[]", data)]}
        url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
        yield f"data URL {name}", {"json": {**PLAIN, "image": url}}
        parameter, value = dice.choice(NAMES), dice.choice(odd)
        body = {"prompt": "x", "image": _url(good), "steps": 1, "preserve": "off", parameter: value}
        yield f"{parameter}={value!r:.40}", {"content": _text(body), "headers": {"content-type": "application/json"}}
        text = str(value)[:2000].encode("utf-8", "replace").decode()
        yield f"form {parameter}={text:.40}", {"data": {**PLAIN, parameter: text}, "files": {"image": good}}
        what, content, kind = dice.choice(bodies())
        yield what, {"content": content, "headers": {"content-type": kind}}
        key = dice.choice(["", "k" * 300, "a\tb", "../../x", "k"])
        yield f"key {key[:9]!r}", {"data": PLAIN, "files": {"image": data}, "headers": {"idempotency-key": key}}


NAMES = (
    "prompt", "model", "n", "size", "quality", "background", "output_format", "output_compression", "stream",
    "partial_images", "user", "seed", "strength", "scope", "window", "strategy", "oversample", "guidance_scale",
    "true_cfg_scale", "denoising_strength", "negative_prompt", "preserve", "on_unfaithful", "retries", "restore",
    "realign", "batch_size", "unlike", "like", "spread", "between", "between[index]", "like[set]", "regions",
    "image", "mask", "nonsense", "__class__", "unlike[set]", "",
)  # fmt: skip


def values() -> list[Any]:
    """For a parameter."""
    return [
        None, True, 0, -1, 1, 2**31, 2**70, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"), "", " ", "1", "auto",
        "NaN", "Infinity", "1e999", "٣", "\0", "\ud800", "a" * 40_000, "../../etc/passwd", "${jndi:ldap://x}",
        "'; DROP TABLE jobs; --", "{{7*7}}", [], {}, [[]], [None], ["preservation"] * 40, {"set": "set-0"},
        {"set": "set-../../x", "index": [0]}, {"set": "set-0", "index": list(range(5000))}, [{"set": 1}] * 9,
        {"set": "set-0", "index": [0, 1], "count": 10**9, "beyond": "x"}, {"set": "set-0", "index": 1},
        {"a": {"b": {"c": []}}}, "[" * 2000, '{"set": ' * 500, "data:image/png;base64,", "file:///etc/passwd",
        "16384x16384", "8x8", "99999999x1",
    ]  # fmt: skip


def bodies() -> list[tuple[str, bytes, str]]:
    """What is no request at all: what it is, the body, its content type."""
    form = "multipart/form-data; boundary=b"
    part = b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
    return [
        ("deep list", b"[" * 50_000, "application/json"),
        ("deep object", b'{"a":' * 50_000, "application/json"),
        ("NaN alone", b"NaN", "application/json"),
        ("huge number", b'{"n":' + b"9" * 10_000 + b"}", "application/json"),
        ("no UTF-8", b'{"prompt":"\xff\xfe"}', "application/json"),
        ("UTF-16", '{"prompt":"x"}'.encode("utf-16"), "application/json"),
        ("keys twice", b'{"n":1,"n":2}', "application/json"),
        ("nothing", b"", "application/json"),
        ("no boundary", b"x", "multipart/form-data"),
        ("another boundary", b"--c\r\n\r\n--c--", form),
        ("not ended", part % (b"prompt", b"", b"x"), form),
        ("many parts", part % (b"prompt", b"", b"x") * 500 + b"--b--", form),
        ("long name", part % (b"n" * 100_000, b"", b"x") + b"--b--", form),
        ("no name", b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--", form),
        ("file name", part % (b"image", b'; filename="../../x\x00.png"', b"x") + b"--b--", form),
        ("no length", b"--b\r\n" + b"A" * 10_000, form),
        ("urlencoded", b"prompt=x&image=y", "application/x-www-form-urlencoded"),
        ("pickle", b"\x80\x04\x95", "application/python-pickle"),
        ("zip", b"PK\x03\x04", "application/zip"),
    ]


def pictures() -> dict[str, bytes]:
    """For an upload."""
    plain = Image.linear_gradient("L").resize((40, 30)).convert("RGB")
    whole = {form: encoded(plain, form) for form in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "ICO", "PPM", "PDF")}
    png, jpeg = whole["PNG"], whole["JPEG"]
    end = png.index(b"IEND") - 4
    modes = {f"png {mode}": encoded(plain.convert(mode)) for mode in ("1", "L", "LA", "P", "RGBA", "I;16")}
    return {
        **whole,
        **modes,
        "cmyk jpeg": encoded(plain.convert("CMYK"), "JPEG"),
        "one pixel": encoded(plain.resize((1, 1))),
        "narrow": encoded(plain.resize((2000, 8))),
        "long": encoded(Image.new("1", (16384, 64))),
        "too long": encoded(Image.new("1", (16385, 64))),
        "bomb": claimed(60_000, 60_000),
        "bomb of one row": claimed(2**31 - 1, 1),
        "no size": claimed(0, 0),
        "short data": claimed(900, 900),
        "true bomb": encoded(Image.new("1", (12_000, 12_000))),
        "text bomb": png[:33] + chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8))) + png[33:],
        "profile bomb": png[:33] + chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(10**7))) + png[33:],
        "broken profile": png[:33] + chunk(b"iCCP", b"a\0\0" + zlib.compress(b"no profile")) + png[33:],
        "broken exif": png[:33] + chunk(b"eXIf", b"MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 90) + png[33:],
        "wrong sum": png[:end] + bytes(4) + png[end:],
        "and zip": png + b"PK\x03\x04" + bytes(100) + b"PK\x05\x06" + bytes(18),
        "and html": png + b"<script>alert(1)</script>",
        "zip and": b"PK\x03\x04" + png,
        "html and": b"<html><body>" + jpeg,
        "jpeg and php": jpeg[:20] + b"<?php system('id'); ?>" + jpeg[20:],
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n",
        "mpo": jpeg[:2] + b"\xff\xe2\0\x10MPF\0MM\0*\0\0\0\x08" + jpeg[2:],
        "signature": b"\x89PNG\r\n\x1a\n",
        "riff": b"RIFF\xff\xff\xff\xffWEBPVP8X" + bytes(20),
        "empty": b"",
        "zeros": bytes(5000),
    }


def chunk(kind: bytes, data: bytes) -> bytes:
    """Of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def claimed(width: int, height: int) -> bytes:
    """A PNG that says it has so many pixels, in a few bytes."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def _damaged(data: bytes, dice: random.Random) -> bytes:
    if dice.random() < 0.5:
        return data[: dice.randrange(len(data) + 1)]
    flipped = bytearray(data)
    for _ in range(min(len(data), dice.randint(1, 8))):
        flipped[dice.randrange(len(data))] ^= dice.randint(1, 255)
    return bytes(flipped)


def _url(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def _text(body: Any) -> bytes:
    return json.dumps(body).encode()  # NaN, Infinity and lone surrogates as they are
