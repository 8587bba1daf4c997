"""What the contract has for families such as Qwen-Image-Edit, on a tiny real pipeline of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import broken_adapters as bad
import pytest
import qwen_adapter
import tiny_qwen
import torch
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit
from plugging import plugin

from ctxrep_edit import DEFAULT_CHECKS, PluginError, diverse_edit, register, round_trip, to_tensor, unregister
from ctxrep_edit.testing import AdapterConformance, tiny_picture


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The adapter as a plugin, and a pipeline that looks at sources of 96 x 96 pixels instead of a megapixel."""
    true = pipeline_qwenimage_edit.calculate_dimensions
    monkeypatch.setattr(pipeline_qwenimage_edit, "calculate_dimensions", lambda area, ratio: true(96 * 96, ratio))
    register(plugin(ctxrep_adapters=lambda: [qwen_adapter.QwenImageEdit()]), "qwen")
    yield
    unregister("qwen")


class TestQwenImageEdit(AdapterConformance):
    guided = {"true_cfg_scale": 4.0}

    @pytest.fixture
    def pipeline(self) -> Any:
        return tiny_qwen.pipeline()


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
    mask = qwen_adapter.QwenImageEdit().instruction(pipeline, given)(seen["transformer"])
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
