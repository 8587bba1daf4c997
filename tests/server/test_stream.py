"""stream=True: each edit as soon as it is finished, as the stock client reads it."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import openai
import pytest
import tiny
import works
from ctxrep_plugins.server import making
from serving import Place, until


def test_each_edit_is_an_event_and_the_last_one_has_the_set(place: Place, png: bytes) -> None:
    asked = {"image": ("a.png", png), "prompt": tiny.WORDS, "n": 3, "partial_images": 0}
    extra = {"preserve": "off", "seed": 5, "batch_size": 1}
    events: list[Any] = list(place.client.images.edit(**asked, stream=True, extra_body=extra))
    assert [event.type for event in events] == ["image_edit.completed"] * 3
    assert [(event.index, event.seed) for event in events] == [(0, 5), (1, 6), (2, 7)]
    assert [hasattr(event, "set") for event in events] == [False, False, True]
    whole = place.client.images.edit(**asked, extra_body=extra)
    assert [event.b64_json for event in events] == [one.b64_json for one in whole.data or ()]
    assert events[-1].set["recipe"]["batches"] == [[0], [1], [2]]
    assert all(event.usage.total_tokens > 0 for event in events)


def test_an_edit_comes_before_the_next_is_made(place: Place, png: bytes) -> None:
    """Told by a client that leaves after the first: the others are not made."""

    async def first() -> None:
        async with openai.AsyncOpenAI(base_url=f"{place.url}/v1", api_key="none") as client:
            stream = await client.images.edit(
                image=("a.png", png), prompt=tiny.WORDS, n=16, stream=True,
                extra_body={"preserve": "off", "batch_size": 1, "steps": 150},
            )  # fmt: skip
            async for event in stream:
                assert base64.b64decode(event.b64_json)
                assert place.workers.waiting == 1
                break
            await stream.close()

    asyncio.run(first())
    until(lambda: place.workers.waiting == 0, seconds=5)


def test_what_is_wrong_at_the_start_has_its_status(place: Place, png: bytes) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        place.client.images.edit(image=("a.png", png), prompt=tiny.WORDS, stream=True, extra_body={"scope": "none"})
    assert refused.value.param == "scope"


def test_what_goes_wrong_later_is_an_error_event(place: Place, png: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "make_set", works.breaks_late)
    stream = place.client.images.edit(
        image=("a.png", png), prompt=tiny.WORDS, n=2, stream=True, extra_body={"preserve": "off", "batch_size": 1}
    )
    assert next(stream).index == 0  # type: ignore[union-attr]
    with pytest.raises(openai.APIError, match="could not do it") as refused:
        next(stream)
    assert refused.value.type == "server_error"


def test_dropped_edits_do_not_come(place: Place, png: bytes) -> None:
    asked: dict[str, Any] = {"image": ("a.png", png), "prompt": tiny.WORDS, "n": 2}
    extra = {"seed": 5, "on_unfaithful": "drop", "preserve": ["preservation"]}
    whole = place.client.images.edit(**asked, extra_body=extra)
    gone = len(whole.set["dropped"])  # type: ignore[attr-defined]
    assert gone + len(whole.data or ()) == 2
    if gone == 2:
        with pytest.raises(openai.UnprocessableEntityError, match="All 2 edits failed a check"):
            list(place.client.images.edit(**asked, stream=True, extra_body=extra))
    else:
        assert len(list(place.client.images.edit(**asked, stream=True, extra_body=extra))) == 2 - gone
