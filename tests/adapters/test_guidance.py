"""Arguments of guidance that have no effect because of one another are refused before anything runs."""

from __future__ import annotations

from typing import Any

import pytest
import tiny_bria
import tiny_flux1
import tiny_flux2
import tiny_glm
import tiny_joyimage
import tiny_longcat
import tiny_qwen
import tiny_zimage
import torch

from ctxrep_edit import InputError, load_pipeline
from ctxrep_edit.sampling.plan import plan
from ctxrep_edit.testing import tiny_picture, tiny_pipeline

ROW = torch.zeros(1, 8, 16)
TRUE = "above 1, and it is 1. Give true_cfg_scale, or leave negative_prompt out."
SCALE = "above {}, and it is {}. Give guidance_scale, or leave negative_prompt out."
AGAINST = "there is none. Give negative_prompt, or leave true_cfg_scale out."


def distilled(pipeline: Any) -> Any:
    pipeline.register_to_config(is_distilled=True)
    return pipeline


PIPELINES = {
    "kontext": tiny_pipeline,
    "img2img": lambda: tiny_flux1.pipeline(tiny_flux1.FluxImg2ImgPipeline),
    "fill": lambda: tiny_flux1.pipeline(tiny_flux1.FluxFillPipeline),
    "klein": lambda: distilled(tiny_flux2.pipeline(tiny_flux2.Flux2KleinPipeline)),
    "base": lambda: tiny_flux2.pipeline(tiny_flux2.Flux2KleinPipeline),
    "glm": tiny_glm.pipeline,
    "nano": lambda: load_pipeline("kontext-nano", device="cpu"),
    "qwen": tiny_qwen.pipeline,
    "sd3": lambda: load_pipeline("sd3-nano", device="cpu"),
    "longcat": tiny_longcat.pipeline,
    "bria": tiny_bria.pipeline,
    "joyimage": lambda: tiny_joyimage.pipeline(tiny_joyimage.CLASSES[0]),
    "zimage": tiny_zimage.pipeline,
}


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    """Pipelines by family, each put together when it is first asked for."""
    return {}


def planned(made: dict[str, Any], family: str, **options: Any) -> Any:
    if family not in made:
        made[family] = PIPELINES[family]()
    mask = tiny_picture() if family == "fill" else None
    return plan(
        tiny_picture(), "change the light", 2, pipeline=made[family], preserve="off", mask=mask, options=options
    )


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        ("kontext", {"negative_prompt": "fog"}, f"FluxKontextPipeline follows it where true_cfg_scale is {TRUE}"),
        ("kontext", {"negative_prompt": "fog", "true_cfg_scale": 1}, TRUE),
        ("kontext", {"true_cfg_scale": 3.0}, AGAINST),
        ("kontext", {"negative_prompt_2": "fog", "true_cfg_scale": 3.0}, "guides where there is a negative_prompt"),
        ("nano", {"guidance_scale": 3.0}, "was not distilled to read one (guidance_embeds is off). Leave it out."),
        ("fill", {"guidance_scale": 3.0}, "transformer of this FluxFillPipeline was not distilled to read one"),
        ("qwen", {"guidance_scale": 3.0}, "transformer of this QwenImageEditPipeline was not distilled to read one"),
        ("img2img", {"negative_prompt": "fog"}, TRUE),
        ("img2img", {"true_cfg_scale": 3.0}, AGAINST),
        ("klein", {"guidance_scale": 4.0}, "is distilled to few steps and never guides. Leave it out."),
        ("klein", {"negative_prompt_embeds": ROW}, "is distilled to few steps and never guides. Leave it out."),
        ("base", {"negative_prompt_embeds": ROW, "guidance_scale": 1.0}, "above 1, and it is 1. Give guidance_scale"),
        ("glm", {"negative_prompt_embeds": ROW, "guidance_scale": 1.0}, "above 1, and it is 1. Give guidance_scale"),
        ("sd3", {"negative_prompt": "fog"}, SCALE.format(1, 1)),
        ("sd3", {"image_guidance_scale": 2.0}, "Give guidance_scale, or leave image_guidance_scale out."),
        ("longcat", {"negative_prompt": "fog", "guidance_scale": 1.0}, SCALE.format(1, 1)),
        ("bria", {"negative_prompt": "fog", "guidance_scale": 0.5}, SCALE.format(1, 0.5)),
        ("joyimage", {"negative_prompt": "fog", "guidance_scale": 1.0}, SCALE.format(1, 1)),
        ("zimage", {"negative_prompt": "fog", "guidance_scale": 0.0}, SCALE.format(0, 0)),
    ],
)
def test_what_would_have_no_effect_is_refused(
    made: dict[str, Any], family: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError) as caught:
        planned(made, family, **options)
    assert message in str(caught.value)
    assert next(iter(options)) in str(caught.value)


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("kontext", {"negative_prompt": "fog", "true_cfg_scale": 2.0}),
        ("kontext", {"true_cfg_scale": 1.0}),
        ("klein", {"guidance_scale": 1.0}),
        ("qwen", {"true_cfg_scale": 1.0}),  # as with a LoRA that was distilled for guidance
        ("sd3", {"negative_prompt": "fog", "guidance_scale": 4.0, "image_guidance_scale": 2.0}),
        ("longcat", {"negative_prompt": "fog"}),
        ("zimage", {"negative_prompt": "fog", "guidance_scale": 1.0}),
    ],
)
def test_what_has_an_effect_is_not(made: dict[str, Any], family: str, options: dict[str, Any]) -> None:
    arguments = planned(made, family, **options).arguments([0, 1])
    assert all(arguments[name] == value for name, value in options.items())
