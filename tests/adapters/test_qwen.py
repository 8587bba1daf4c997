"""Qwen-Image that edits, and what the contract has for families such as it, on tiny real pipelines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import broken_adapters as bad
import families
import pytest
import tiny_qwen
import torch
from ctxrep_adapters import qwen_image

from ctxrep_edit import DEFAULT_CHECKS, InputError, PluginError, Request, diverse_edit, round_trip, to_tensor
from ctxrep_edit.testing import AdapterConformance, tiny_picture


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        tiny_qwen.small(patch)
        yield


@pytest.fixture(scope="module", params=tiny_qwen.CLASSES, ids=lambda cls: cls.__name__)
def family(request: pytest.FixtureRequest) -> Any:
    return tiny_qwen.pipeline(request.param)


class TestQwenImageEdit(families.FamilyConformance):
    guided = {"true_cfg_scale": 4.0}


def test_a_video_autoencoder_makes_the_round_trip() -> None:
    picture = to_tensor(tiny_picture(64, 48))
    made = round_trip(tiny_qwen.pipeline(), picture)
    assert made.shape == picture.shape
    assert made.isfinite().all()


def test_every_check_judges(recwarn: pytest.WarningsRecorder) -> None:
    edits = diverse_edit(
        tiny_picture(64, 48), "change the light", 2, pipeline=tiny_qwen.pipeline(), seed=0, steps=2, progress=False
    )
    assert not [str(warning.message) for warning in recwarn if "failed" in str(warning.message)]
    for edit in edits:
        assert {*edit.verdicts} == {*DEFAULT_CHECKS}
        assert not [verdict.reason for verdict in edit.verdicts.values() if "not judged" in verdict.reason]


def test_the_mask_is_the_words_between_what_the_pipeline_put_around_them() -> None:
    pipeline, seen = tiny_qwen.pipeline(), {}
    for name in ("text_encoder", "transformer"):

        def note(module: Any, args: Any, call: dict[str, Any], name: str = name) -> None:
            seen.setdefault(name, call)

        getattr(pipeline, name).register_forward_pre_hook(note, with_kwargs=True)
    given = {"image": tiny_picture(64, 48), "prompt": "add a hat", "true_cfg_scale": 1.0, "num_inference_steps": 2}
    pipeline(**given, generator=torch.Generator().manual_seed(0))
    mask = qwen_image.QwenImageEdit().instruction(pipeline, given)(seen["transformer"])
    tokens = seen["text_encoder"]["input_ids"][0, pipeline.prompt_template_encode_start_idx :]
    assert pipeline.tokenizer.decode(tokens[mask]) == "add a hat"


@pytest.mark.parametrize("wrong", [bad.VisionOnly, bad.VisionToo])
def test_the_kit_finds_tokens_of_the_source_in_the_mask(wrong: type) -> None:
    with pytest.raises(AssertionError, match="tokens that are the same whatever the instruction, from token 0 on"):
        AdapterConformance().test_the_instruction_is_what_is_marked(tiny_qwen.pipeline(), wrong())


@pytest.mark.parametrize("wrong", [bad.Pictures, bad.Videos])
def test_the_kit_finds_an_autoencoder_that_is_not_understood(wrong: type) -> None:
    with pytest.raises(pytest.fail.Exception, match="The checks cannot use the pipeline's autoencoder by encode"):
        AdapterConformance().test_the_autoencoder_makes_the_round_trip(tiny_qwen.pipeline(), wrong())


def test_pictures_of_another_shape_name_the_adapter() -> None:
    with pytest.raises(PluginError) as wrong:
        round_trip(tiny_qwen.pipeline(), to_tensor(tiny_picture(64, 48)), bad.Videos())
    assert str(wrong.value) == (
        "The adapter qwen-image-edit makes (1, 3, 1, 48, 64) of (1, 3, 48, 64) by the autoencoder of "
        "QwenImageEditPipeline: its encode and decode must give pictures of the size they were given."
    )


def test_inpainting_takes_no_size_of_ones_own() -> None:
    pipeline = tiny_qwen.pipeline(tiny_qwen.QwenImageEditInpaintPipeline)
    white = tiny_picture(90, 60).point(lambda value: 255)
    asked = {"pipeline": pipeline, "mask": white, "steps": 2, "preserve": "off", "progress": False}
    with pytest.raises(InputError, match=r"chooses its size by the picture's aspect, 96 x 64 here, and cannot make"):
        diverse_edit(tiny_picture(90, 60), "change the light", 2, width=64, height=32, **asked)


def test_several_pictures_are_named_in_the_text() -> None:
    pipeline = tiny_qwen.pipeline(tiny_qwen.QwenImageEditPlusPipeline)
    adapter, seen = qwen_image.QwenImageEditPlus(), []
    pipeline.transformer.register_forward_pre_hook(lambda _, args, call: seen.append(call), with_kwargs=True)
    generators = [torch.Generator().manual_seed(i) for i in range(2)]
    pictures = tiny_picture(64, 48, 1), tiny_picture(48, 64, 2)
    request = Request(tiny_picture(64, 48), "add a hat", generators, (96, 64), 1, None, pictures)
    given = adapter.arguments(pipeline, request)
    pipeline(**given)
    assert [frame[0] for frame in seen[0]["img_shapes"][0]] == [1] * 4  # what is made, and three sources
    mask = adapter.instruction(pipeline, given)(seen[0])
    assert int(mask.sum()) == len("add a hat")


def test_embeddings_have_their_masks_with_them() -> None:
    pipeline, picture = tiny_qwen.pipeline(), tiny_picture(64, 48)
    asked = {"pipeline": pipeline, "n": 2, "seed": 0, "steps": 2, "preserve": "off", "progress": False}
    with torch.no_grad():
        text, mask = pipeline.encode_prompt("change the light", picture)
    mask = torch.ones(text.shape[:2], dtype=torch.long) if mask is None else mask
    one, two = (
        diverse_edit(
            picture, "change the light", prompt_embeds=text.repeat(rows, 1, 1),
            prompt_embeds_mask=mask.repeat(rows, 1), oversample=1, **asked,
        )
        for rows in (1, 2)
    )  # fmt: skip
    assert [edit.image.tobytes() for edit in one] == [edit.image.tobytes() for edit in two]
    with pytest.raises(InputError, match="as many copies of negative_prompt_embeds as of the words: give prompt_emb"):
        diverse_edit(picture, "change the light", negative_prompt_embeds=text, true_cfg_scale=2.0, **asked)
    negative = {"negative_prompt_embeds": text, "negative_prompt_embeds_mask": mask, "true_cfg_scale": 2.0}
    given = diverse_edit(
        picture, "change the light", prompt_embeds=text, prompt_embeds_mask=mask, oversample=1, **negative, **asked
    )
    assert len(given) == 2


@pytest.mark.parametrize("cls", [tiny_qwen.QwenImageEditPipeline, tiny_qwen.QwenImageEditPlusPipeline])
def test_what_is_not_wanted_may_be_said(cls: type) -> None:
    pipeline, picture = tiny_qwen.pipeline(cls), tiny_picture(64, 48)
    asked = {"pipeline": pipeline, "n": 2, "seed": 0, "steps": 2, "preserve": "off", "progress": False}
    plain, fog = (
        diverse_edit(picture, "change the light", true_cfg_scale=4.0, **asked, **unwanted)
        for unwanted in ({}, {"negative_prompt": "fog over all"})
    )
    assert [edit.image.tobytes() for edit in plain] != [edit.image.tobytes() for edit in fog]
