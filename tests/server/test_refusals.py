"""What cannot be done is refused by name, in the shape of the hosted API."""

from __future__ import annotations

import time
from typing import Any

import httpx2
import openai
import pytest
import tiny
import works
from ctxrep_plugins.server.refusals import Cancelled, Refused, headers, refusal
from PIL import Image
from serving import Place, encoded, until

from ctxrep_edit import InputError, ModelError, OutputError, PipelineBusy


@pytest.mark.parametrize(
    ("asked", "param", "words"),
    [
        ({"n": 0}, "n", "1 to 16"),
        ({"n": 17}, "n", "1 to 16"),
        ({"size": "64x64"}, "size", "nothing is stretched"),
        ({"size": "big"}, "size", "WIDTHxHEIGHT"),
        ({"quality": "high"}, "quality", "steps says"),
        ({"background": "transparent"}, "background", "of their source"),
        ({"output_format": "svg"}, "output_format", "'png' or 'jpeg' or 'webp'"),
        ({"output_compression": 50}, "output_compression", "loses nothing"),
        ({"response_format": "url"}, "response_format", "in the answer"),
        ({"partial_images": 4, "stream": True}, "partial_images", "0 to 3"),
        ({"partial_images": 2}, "partial_images", "stream=true"),
        ({"extra_body": {"unlike": {"set": "set-1"}}}, "unlike", "--state"),
        ({"extra_body": {"unlike": {"index": [1]}}}, "unlike", "must name a set"),
        ({"extra_body": {"unlike": "set-1"}}, "unlike", "an object"),
        ({"extra_body": {"unlike": '[{"set": "set-1", "index": ["x"]}]'}}, "unlike", "whole number"),
        ({"input_fidelity": "high"}, "input_fidelity", "restore"),
        ({"complexity": "low"}, "complexity", "does not plan"),
        ({"frame_count": 4}, "frame_count", "animations"),
        ({"prompt": " "}, "prompt", "text of 1 to"),
        ({"extra_body": {"sed": 1}}, "sed", "did you mean seed?"),
        ({"extra_body": {"nonsense": 1}}, "nonsense", "no parameter"),
        ({"extra_body": {"seed": -1}}, "seed", "whole number"),
        ({"extra_body": {"strength": "much"}}, "strength", "'auto'"),
        ({"extra_body": {"strength": float("nan")}}, "strength", "number"),
        ({"extra_body": {"restore": "perhaps"}}, "restore", "true or false"),
        ({"extra_body": {"retries": 1}}, "retries", "on_unfaithful"),
        ({"extra_body": {"steps": 10**6}}, "steps", "1 to 200"),
        ({"extra_body": {"scope": "everywhere"}}, "scope", "choose one of"),
        ({"extra_body": {"strategy": "luck"}}, "strategy", "choose one of"),
        ({"extra_body": {"preserve": ["taste"]}}, "preserve", "choose one of"),
        ({"extra_body": {"preserve": ["following"]}}, "preserve", "name one in CTXREP_EDIT_CLIP"),
        ({"extra_body": {"denoising_strength": 0.5}}, "denoising_strength", "has no option"),
        ({"extra_body": {"negative_prompt": "fog"}}, "negative_prompt", "true_cfg_scale"),
        ({"n": 2, "extra_body": {"batch_size": 3}}, "batch_size", "from 1 to 2"),
    ],
)
def test_parameters(place: Place, png: bytes, asked: dict[str, Any], param: str, words: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        place.client.images.edit(**{"image": ("a.png", png), "prompt": tiny.WORDS, **asked})
    assert refused.value.param == param
    assert refused.value.type == "invalid_request_error"
    assert words in refused.value.body["message"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (PipelineBusy("in /srv/model"), 503, "busy"),
        (Cancelled("x"), 503, "stopped"),
        (ModelError("in /srv/model"), 500, None),
        (OutputError("in /srv/model"), 500, None),
        (MemoryError("in /srv/model"), 500, "out_of_memory"),
        (InputError("mask marks nothing"), 400, None),
        (Refused("gone", status=410, code="set_removed"), 410, "set_removed"),
    ],
)
def test_errors_of_the_library(error: Exception, status: int, code: str | None) -> None:
    refused = refusal(error, "req-1", ("mask", "n"))
    assert (refused.status, refused.code) == (status, code)
    assert "/srv" not in str(refused)
    assert refused.param == ("mask" if status == 400 else None)
    assert ("retry-after" in headers(refused)) == (status == 503)


def test_a_webp_that_is_too_long_is_refused_before_it_is_made(place: Place, picture: Image.Image) -> None:
    long = ("a.png", encoded(picture.resize((2048, 8))))
    with pytest.raises(openai.BadRequestError, match="at most 16383 pixels a side") as refused:
        place.client.images.edit(image=long, prompt=tiny.WORDS, size="16384x64", output_format="webp")
    assert refused.value.param == "output_format"


def test_another_model(place: Place, png: bytes) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        place.client.images.edit(image=("a.png", png), prompt=tiny.WORDS, model="gpt-image-2")
    assert (refused.value.param, refused.value.code) == ("model", "model_not_found")


def test_several_pictures(place: Place, png: bytes) -> None:
    with pytest.raises(openai.BadRequestError, match="takes no picture beside the one to edit, but 1 were given"):
        place.client.images.edit(image=[("a.png", png), ("b.png", png)], prompt=tiny.WORDS)


def post(place: Place, **options: Any) -> dict[str, Any]:
    answer = httpx2.post(f"{place.url}/v1/images/edits", timeout=60, **options)
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return {**error, "status": answer.status_code}


@pytest.mark.parametrize(
    ("options", "status", "param"),
    [
        ({"json": {"prompt": "x"}}, 400, "image"),
        ({"json": {"image": "data:image/png;base64,AAAA"}}, 400, "prompt"),
        ({"json": {"image": "/etc/passwd", "prompt": "x"}}, 400, "image"),
        ({"json": {"image": "file:///etc/passwd", "prompt": "x"}}, 400, "image"),
        ({"json": {"image": "http://127.0.0.1:1/a.png", "prompt": "x"}}, 400, "image"),
        ({"json": {"image": "data:image/png;base64,????", "prompt": "x"}}, 400, "image"),
        ({"json": {"image": 7, "prompt": "x"}}, 400, "image"),
        ({"json": {"image": "data:image/png;base64,AAAA", "prompt": "x"}}, 400, "image"),
        ({"json": {"image": "data:,", "images": ["data:,"], "prompt": "x"}}, 400, "image"),
        ({"json": [1]}, 400, None),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, None),
        ({"content": b'{"n": 1, "n": 2}', "headers": {"content-type": "application/json"}}, 400, None),
        ({"content": b"[" * 10**5, "headers": {"content-type": "application/json"}}, 400, None),
        ({"content": b"x", "headers": {"content-type": "text/plain"}}, 415, None),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, None),
        ({"data": {"image": "/etc/passwd", "prompt": "x"}, "files": {"mask": b"x"}}, 400, "image"),
        ({"data": {"prompt": ["x", "y"]}, "files": {"image": b"x"}}, 400, "prompt"),
        ({"data": {"prompt": "x"}, "files": {"other": b"x"}}, 400, "other"),
        ({"data": {"prompt": "x"}, "files": [("image[]", b"x")] * 10}, 400, None),
    ],
)
def test_bodies(place: Place, options: dict[str, Any], status: int, param: str | None) -> None:
    refused = post(place, **options)
    assert (refused["status"], refused["param"]) == (status, param), refused


def test_a_body_of_many_megabytes_holds_nobody_up(place: Place) -> None:
    """Whatever fills it: a name, which is compared with all others, or values, which are parsed and shown."""
    head = {"content-type": "application/json"}
    url = "data:image/png;base64,AAAA"
    begun = time.monotonic()
    long = post(place, json={"n" * 30_000_000: 1, "prompt": "x", "image": url})
    assert (long["status"], long["param"]) == (400, "n" * 60)
    many = post(place, content=b'{"seed": [' + b"1," * 20_000_000 + b"1]}", headers=head)
    assert (many["status"], "more than 131072 values" in many["message"]) == (400, True)
    deep = post(place, json={"unlike": [[1] * 100_000] * 2, "seed": "1" * 10**7, "prompt": "x", "image": url})
    assert (deep["status"], len(deep["message"]) < 300) == (400, True)
    assert time.monotonic() - begun < 10


def test_paths_and_methods(place: Place) -> None:
    for path, status in (("/v1/images/edits", 405), ("/v1/nothing", 404), ("/redoc", 404)):
        answer = place.get(path)
        assert answer.status_code == status
        assert answer.json()["error"]["type"] == "invalid_request_error"


def test_what_nobody_foresaw_is_told_without_its_message(
    place: Place, png: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctxrep_plugins.server.making.make_set", works.breaks)
    with pytest.raises(openai.InternalServerError) as refused:
        place.client.images.edit(image=("a.png", png), prompt="a secret too")
    assert refused.value.type == "server_error"
    assert "secret" not in str(refused.value)
    monkeypatch.undo()
    until(lambda: refused.value.request_id in [entry["request_id"] for entry in place.logged("fault")])
    assert place.logged("fault")[-1]["error"] == "ZeroDivisionError"
    assert place.logged("fault")[-1]["request_id"] == refused.value.request_id
    assert "secret" not in place.log.getvalue()
    assert place.get("/readyz").status_code == 200
