"""Beside the edits: previews while they form, and several pictures for models that take them."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
import tiny
import tiny_flux2
from diffusers import Flux2KleinPipeline
from openai.types import ImageEditCompletedEvent, ImageEditPartialImageEvent
from PIL import Image
from serving import Place, encoded, serving

PLAIN = {"preserve": "off", "seed": 5}


@pytest.fixture(scope="module")
def taking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A server whose model takes further pictures."""
    folder = tmp_path_factory.mktemp("models") / "klein"
    tiny_flux2.pipeline(Flux2KleinPipeline).save_pretrained(folder)
    stated = {"sizes": [[96, 64]], "call": {**tiny_flux2.OPTIONS, "num_inference_steps": 3}}
    (folder / "ctxrep.json").write_text(json.dumps(stated))
    with serving(folder) as made:
        yield made


def streamed(place: Place, png: bytes, **options: Any) -> list[Any]:
    extra = {**PLAIN, **options.pop("extra_body", {})}
    asked = {"image": ("a.png", png), "prompt": tiny.WORDS, "n": 2, "stream": True, **options}
    return list(place.client.images.edit(**asked, extra_body=extra))


def test_previews_come_before_their_edits(place: Place, png: bytes) -> None:
    events = streamed(place, png, partial_images=2, extra_body={"steps": 6})
    partial = [event for event in events if event.type == "image_edit.partial_image"]
    assert all(isinstance(event, ImageEditPartialImageEvent) for event in partial)
    assert [(event.index, event.partial_image_index) for event in partial] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert [event.type for event in events[4:]] == ["image_edit.completed"] * 2
    assert all(isinstance(event, ImageEditCompletedEvent) for event in events[4:])
    for event in partial:
        picture = Image.open(io.BytesIO(base64.b64decode(event.b64_json)))
        assert (picture.format, "{}x{}".format(*picture.size)) == ("PNG", event.size)
    without = streamed(place, png, extra_body={"steps": 6})
    assert [event.b64_json for event in without] == [event.b64_json for event in events[4:]]


def test_previews_of_batches_in_the_form_that_is_asked_for(place: Place, png: bytes) -> None:
    events = streamed(
        place, png, partial_images=1, output_format="webp", size="48x32", extra_body={"steps": 4, "batch_size": 1}
    )
    kinds = [event.type.rpartition(".")[2] for event in events]
    assert kinds == ["partial_image", "completed", "partial_image", "completed"]
    assert [event.index for event in events] == [0, 0, 1, 1]
    assert {event.output_format for event in events} == {"webp"}
    assert Image.open(io.BytesIO(base64.b64decode(events[0].b64_json))).format == "WEBP"


def test_several_pictures_reach_the_model(taking: Place, png: bytes) -> None:
    hat = encoded(Image.new("RGB", (64, 64), "red"))
    asked: dict[str, Any] = {"prompt": "put the hat on her", "extra_body": PLAIN}
    alone = taking.client.images.edit(image=("a.png", png), **asked)
    both = taking.client.images.edit(image=[("a.png", png), ("hat.png", hat)], **asked)
    assert alone.data[0].b64_json != both.data[0].b64_json  # type: ignore[index]
    assert len(both.set["recipe"]["references"]) == 1  # type: ignore[attr-defined]
    with pytest.raises(openai.BadRequestError, match="takes at most 3 pictures") as refused:
        taking.client.images.edit(image=[("a.png", png)] + [("hat.png", hat)] * 4, **asked)
    assert refused.value.param == "image"
    with pytest.raises(openai.BadRequestError, match="truncated or broken") as refused:
        taking.client.images.edit(image=[("a.png", png), ("hat.png", hat[:60])], **asked)
    assert refused.value.param == "image"
