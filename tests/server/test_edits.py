"""POST /v1/images/edits, as the stock `openai` client calls it."""

from __future__ import annotations

import asyncio
import base64
import io
import threading
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import tiny
import works
from ctxrep_plugins.server.turns import Task, nobody
from PIL import Image
from serving import Place, encoded, until

from ctxrep_edit import diverse_edit, load_pipeline

PLAIN = {"preserve": "off", "seed": 5}


def opened(data: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_a_set_is_the_one_that_a_call_makes(place: Place, png: bytes, folder: Path) -> None:
    made = place.client.images.edit(image=("a.png", png), prompt=tiny.WORDS, n=3, extra_body=PLAIN)
    pipeline = load_pipeline(folder, device="cpu", progress=False)
    called = diverse_edit(png, tiny.WORDS, n=3, seed=5, preserve="off", pipeline=pipeline, progress=False)
    assert made.data is not None
    assert [opened(one.b64_json or "").tobytes() for one in made.data] == [edit.image.tobytes() for edit in called]
    assert [one.seed for one in made.data] == [5, 6, 7]  # type: ignore[attr-defined]
    assert made.output_format == "png"
    assert made.size == "{}x{}".format(*called[0].image.size)
    about = made.set  # type: ignore[attr-defined]
    assert about["recipe"] == {**called.recipe, "model": str(folder)}
    assert about["vendi"] is None
    assert made.usage is not None
    assert made.usage.total_tokens == made.usage.input_tokens + made.usage.output_tokens > 0
    assert made._request_id.startswith("req-")  # type: ignore[attr-defined]


def test_judged_edits_come_with_their_verdicts(place: Place, png: bytes) -> None:
    made = place.client.images.edit(image=("a.png", png), prompt=tiny.WORDS, n=2, extra_body={"seed": 1})
    for one in made.data or ():
        said: Any = one
        assert said.lpips > 0
        assert said.reason
        assert "preservation" in said.verdicts
    about = made.set  # type: ignore[attr-defined]
    assert 1 <= about["vendi"] <= 2
    assert about["distinct"] in (1, 2)


def test_the_form_of_the_pictures(place: Place, png: bytes) -> None:
    made = place.client.images.edit(
        image=("a.png", png), prompt=tiny.WORDS, n=1, size="48x32", output_format="webp", output_compression=50,
        background="opaque", response_format="b64_json", quality="auto", safety_identifier="u1", extra_body=PLAIN,
    )  # fmt: skip
    (one,) = made.data or ()
    picture = opened(one.b64_json or "")
    assert (picture.format, picture.size) == ("WEBP", (48, 32))
    assert (made.size, made.background, made.safety_identifier) == ("48x32", "opaque", "u1")


def test_a_mask_in_either_convention_and_restoring(place: Place, png: bytes) -> None:
    mask = Image.new("RGBA", (96, 64), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, 48, 64))
    made = place.client.images.edit(
        image=("a.png", png), mask=("m.png", encoded(mask)), prompt=tiny.WORDS,
        extra_body={"restore": True, "seed": 5, "preserve": ["preservation"]},
    )  # fmt: skip
    (one,) = made.data or ()
    picture, source = opened(one.b64_json or ""), Image.open(io.BytesIO(png))
    assert picture.size == source.size
    right = (80, 0, 96, 64)
    assert picture.crop(right).tobytes() == source.crop(right).tobytes()
    assert picture.tobytes() != source.tobytes()


def test_each_edit_is_asked_for_a_value(place: Place, png: bytes) -> None:
    asked = {"image": ("a.png", png), "prompt": "add a {} frame", "n": 2}
    made = place.client.images.edit(**asked, extra_body={**PLAIN, "vary": ["red", "blue"]})
    assert [one.to_dict()["value"] for one in made.data or ()] == ["red", "blue"]
    for wrong in (["red", "blue", "green"], ["red"]):
        with pytest.raises(openai.BadRequestError, match="vary"):
            place.client.images.edit(**asked, extra_body={**PLAIN, "vary": wrong})


def test_json_with_data_urls(place: Place, png: bytes) -> None:
    url = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    body = {"image": url, "prompt": tiny.WORDS, "n": 2, "size": None, **PLAIN}
    first = httpx2.post(f"{place.url}/v1/images/edits", json=body, timeout=60)
    assert first.status_code == 200, first.text
    body = {"images": [{"image_url": url}], "prompt": tiny.WORDS, "n": 2, "seed": "5", "preserve": "off"}
    second = httpx2.post(f"{place.url}/v1/images/edits", json=body, timeout=60)
    pictures = [[one["b64_json"] for one in made.json()["data"]] for made in (first, second)]
    assert pictures[0] == pictures[1]


def test_asynchronous_clients_each_get_their_own(place: Place, png: bytes) -> None:
    async def all_of_them() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=f"{place.url}/v1", api_key="none", max_retries=0) as client:
            calls = [
                client.images.edit(
                    image=("a.png", png), prompt=tiny.WORDS, n=2, extra_body={"preserve": "off", "seed": 10 * i}
                )
                for i in range(5)
            ]
            return await asyncio.gather(*calls)

    for i, made in enumerate(asyncio.run(all_of_them())):
        assert [one.seed for one in made.data] == [10 * i, 10 * i + 1]


def test_a_client_that_hangs_up_ends_its_run(place: Place, png: bytes) -> None:
    with pytest.raises(openai.APITimeoutError):
        place.client.with_options(timeout=0.5).images.edit(
            image=("a.png", png), prompt=tiny.WORDS, n=16, extra_body={"preserve": "off", "steps": 200, "batch_size": 1}
        )
    until(lambda: place.workers.waiting == 0, seconds=10)
    until(lambda: any(entry["status"] == 499 for entry in place.logged()))


def test_clients_that_hang_up_while_they_wait_leave_nothing_behind(place: Place, png: bytes) -> None:
    """Though the worker is at work for somebody else all the time."""
    left, before = threading.Event(), len(place.logged())
    place.workers.submit(Task(works.until_cancelled, nobody, left.is_set))
    for _ in range(3):
        with pytest.raises(openai.APITimeoutError):
            place.client.with_options(timeout=0.5).images.edit(image=("a.png", png), prompt=tiny.WORDS)
    until(lambda: [entry["status"] for entry in place.logged()[before:]] == [499] * 3, seconds=10)
    assert place.workers.waiting == 1
    left.set()
    until(lambda: place.workers.waiting == 0)


def test_a_full_queue_says_when_to_come_again(place: Place, png: bytes) -> None:
    left = threading.Event()
    for _ in range(9):
        place.workers.submit(Task(works.until_cancelled, nobody, left.is_set))
    with pytest.raises(openai.RateLimitError) as refused:
        place.client.images.edit(image=("a.png", png), prompt=tiny.WORDS)
    left.set()
    assert refused.value.code == "queue_full"
    assert int(refused.value.response.headers["retry-after"]) >= 1
    until(lambda: place.workers.waiting == 0)


def test_the_model_and_the_state(place: Place, folder: Path) -> None:
    (model,) = place.client.models.list().data
    assert model.id == str(folder)
    assert place.get("/healthz").json() == {"status": "ok"}
    ready = place.get("/readyz").json()
    assert ready["status"] == "ready"
    (worker,) = ready["workers"]
    same = {"worker": 0, "device": "cpu", "state": "ready", "restarts": 0, "problem": None}
    assert {**worker, "restarts": 0} == same
    with pytest.raises(openai.NotFoundError):
        place.client.models.retrieve("other")
    page = place.get("/docs")
    assert "style-src 'sha256-" in page.headers["content-security-policy"]
    for words in ("POST /v1/images/edits", "<code>strength</code>", "a number, 0 to 1000, or auto", "(needed)"):
        assert words in page.text
    schema = place.get("/openapi.json").json()["paths"]["/v1/images/edits"]["post"]["requestBody"]["content"]
    assert schema["multipart/form-data"]["schema"]["additionalProperties"] is False
