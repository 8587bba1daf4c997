"""Several pictures: `references`, for the families that take them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_flux2
import tiny_qwen
from ctxrep_adapters import shared
from diffusers import Flux2KleinPipeline, QwenImageEditPlusPipeline
from PIL import Image

from ctxrep_edit import EditSet, InputError, Repulsion, diverse_edit, stream_edits
from ctxrep_edit.testing import tiny_picture

WORDS = "put the hat on her"
SETTINGS = Repulsion(scope="generated", strength=2.0, steps=1)


@pytest.fixture(scope="module")
def klein() -> Any:
    return tiny_flux2.pipeline(Flux2KleinPipeline)


@pytest.fixture(autouse=True)
def sizes_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "MEGAPIXEL", 96 * 64)


def edited(pipeline: Any, **options: Any) -> EditSet:
    options = {"seed": 0, "steps": 2, "preserve": "off", "progress": False, "repulsion": SETTINGS, **options}
    return diverse_edit(tiny_picture(80, 60), WORDS, 2, pipeline=pipeline, **tiny_flux2.OPTIONS, **options)


def as_bytes(edits: EditSet) -> list[bytes]:
    return [image.tobytes() for image in edits.images]


def hats() -> list[Image.Image]:
    hat = tiny_picture(48, 64)
    return [hat, hat.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]


def test_they_reach_the_pipeline_in_order(klein: Any, tmp_path: Path) -> None:
    hat, other = hats()
    alone, both = edited(klein), edited(klein, references=[hat, other])
    assert len({*map(tuple, map(as_bytes, (alone, both, edited(klein, references=[other, hat]))))}) == 3
    file = tmp_path / "hat.png"
    hat.save(file)
    assert as_bytes(edited(klein, references=[file, other])) == as_bytes(both)
    assert [entry["size"] for entry in both.recipe["references"]] == [[48, 64]] * 2
    assert "references" not in alone.recipe
    stream = stream_edits(
        tiny_picture(80, 60), WORDS, 2, pipeline=klein, references=(hat, other), repulsion=SETTINGS, seed=0, steps=2,
        preserve="off", progress=False, **tiny_flux2.OPTIONS,
    )  # fmt: skip
    assert as_bytes(stream.finish()) == as_bytes(both)


def test_more_of_them_is_asked_for_with_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tiny_qwen.small(monkeypatch)
    pipeline = tiny_qwen.pipeline(QwenImageEditPlusPipeline)
    options: dict[str, Any] = {
        "seed": 0, "steps": 2, "preserve": "off", "progress": False, "pipeline": pipeline, "repulsion": SETTINGS,
    }  # fmt: skip
    source, many = tiny_picture(80, 60), hats()
    alone = diverse_edit(source, WORDS, 2, **options)
    both = diverse_edit(source, WORDS, 2, references=many, **options)
    assert as_bytes(alone) != as_bytes(both)
    more = both.more(1, progress=False)
    assert more.recipe["references"] == both.recipe["references"]
    both.save(tmp_path, bank=True)
    again = EditSet.load(tmp_path).more(1, pipeline=pipeline, progress=False)
    assert as_bytes(again) == as_bytes(more)
    with pytest.raises(InputError, match="made with another further pictures"):
        diverse_edit(source, WORDS, 1, references=many[:1], unlike=[both[0]], **options)
    with pytest.raises(InputError, match=r"QwenImageEditPlusPipeline takes at most 2 pictures.*but 3 were given"):
        diverse_edit(source, WORDS, 1, references=[*many, many[0]], **options)


def test_what_cannot_be_used_is_refused(pipeline: Any, klein: Any) -> None:
    with pytest.raises(InputError, match=r"FluxKontextPipeline takes no picture beside the one to edit, but 1 were"):
        diverse_edit(tiny_picture(80, 60), WORDS, 2, pipeline=pipeline, references=hats()[:1], preserve="off")
    for wrong, words in (
        ("hat.png", "must be a list"),
        ([3], "reference 1"),
        ([Image.new("RGB", (900, 60))], "narrow"),
    ):
        with pytest.raises(InputError, match=words):
            edited(klein, references=wrong)
    with pytest.raises(InputError, match="more than 8 times as long as wide"):
        edited(klein, references=[Image.new("RGB", (600, 60))])
