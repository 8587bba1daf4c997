"""FLUX.2: the adapters of its four pipelines, on tiny real ones."""

from __future__ import annotations

from typing import Any

import families
import pytest
import tiny_flux2
import torch
from ctxrep_adapters import flux2
from PIL import Image

from ctxrep_edit import InputError, Request, adapter_for, diverse_edit
from ctxrep_edit.testing import tiny_picture

CALL = {"steps": 2, "preserve": "off", "progress": False, "width": 96, "height": 64, **tiny_flux2.OPTIONS}


@pytest.fixture(scope="module", params=tiny_flux2.CLASSES, ids=lambda cls: cls.__name__)
def family(request: pytest.FixtureRequest) -> Any:
    guides = request.param in (tiny_flux2.Flux2KleinPipeline, tiny_flux2.Flux2KleinInpaintPipeline)
    return tiny_flux2.pipeline(request.param, **{"is_distilled": False} if guides else {})


class TestFlux2(families.FamilyConformance):
    options = {**tiny_flux2.OPTIONS}


@pytest.mark.parametrize("words", ["user", "it", "change the light"])
@pytest.mark.parametrize("cls", [tiny_flux2.Flux2Pipeline, tiny_flux2.Flux2KleinPipeline], ids=lambda cls: cls.__name__)
def test_the_mask_is_the_words_within_the_turn(cls: type, words: str) -> None:
    pipeline = tiny_flux2.pipeline(cls)
    mask = adapter_for(pipeline).instruction(pipeline, {"prompt": words, **tiny_flux2.OPTIONS})
    seen: list[Any] = []
    pipeline.text_encoder.register_forward_pre_hook(lambda _, args, call: seen.append(call), with_kwargs=True)
    pipeline.encode_prompt(words, **tiny_flux2.OPTIONS)
    tokenizer = getattr(pipeline.tokenizer, "tokenizer", pipeline.tokenizer)
    assert tokenizer.decode(seen[0]["input_ids"][0][mask]) == words


def test_of_no_picture_more_is_asked_than_the_pipeline_takes_uncropped() -> None:
    pipeline = tiny_flux2.pipeline(tiny_flux2.Flux2KleinPipeline)
    for width, height in ((1024, 1024), (1000, 777), (3000, 200), (641, 480), (999, 1001)):
        wide, high = flux2.Flux2Klein().size(pipeline, width, height)
        assert wide * high <= 1024 * 1024
        assert wide % 8 == high % 8 == 0
        assert wide / high == pytest.approx(width / height, rel=0.03)


def test_references_of_a_cache_are_left_alone_in_the_first_step() -> None:
    """They come first there, and are gone afterwards."""
    pipeline, lengths = tiny_flux2.pipeline(tiny_flux2.Flux2KleinKVPipeline), []
    adapter = adapter_for(pipeline)

    def note(module: Any, args: Any, call: dict[str, Any]) -> None:
        lengths.append((call["hidden_states"].shape[1], int(adapter.generated(call).sum())))

    pipeline.transformer.register_forward_pre_hook(note, with_kwargs=True)
    edits = diverse_edit(tiny_picture(96, 64), "change it", 2, pipeline=pipeline, scope="generated", **CALL)
    assert lengths == [(192, 96), (96, 96)]
    assert edits.contextual_vendi is not None


@pytest.mark.parametrize("size", [1, 2])
def test_a_pool_and_those_that_wait_go_with_the_cache(size: int) -> None:
    families.passes_in_turn(tiny_flux2.pipeline(tiny_flux2.Flux2KleinKVPipeline), size, **CALL)


def test_inpainting_needs_a_mask_and_takes_a_reference() -> None:
    pipeline = tiny_flux2.pipeline(tiny_flux2.Flux2KleinInpaintPipeline)
    with pytest.raises(InputError, match="edits inside a mask and was given none: give mask="):
        diverse_edit(tiny_picture(96, 64), "change it", 2, pipeline=pipeline, **CALL)
    mask = Image.new("L", (96, 64), 255)
    request = Request(tiny_picture(96, 64), "it", [torch.Generator()], (96, 64), 1, mask, [tiny_picture(64, 64)])
    given = adapter_for(pipeline).arguments(pipeline, request)
    assert given["image_reference"].size == (64, 64)
    pipeline(**given, **tiny_flux2.OPTIONS)
