"""A tiny `LongCatImageEditPipeline`."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import tiny_qwen
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, LongCatImageEditPipeline, LongCatImageTransformer2DModel
from diffusers.pipelines.longcat_image import pipeline_longcat_image_edit
from transformers import Qwen2VLImageProcessor, Qwen2VLProcessor, Qwen2VLVideoProcessor

CHANNELS = 16  # of the latents; the pipeline knows no other number
AREA = 96 * 64  # pixels of the source as it looks at it
LENGTH = 40  # tokens that an instruction is padded to


def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the pipeline look at sources of `AREA` pixels instead of a megapixel."""
    true = pipeline_longcat_image_edit.calculate_dimensions
    changed = lambda area, ratio: true(AREA, ratio)  # noqa: E731
    monkeypatch.setattr(pipeline_longcat_image_edit, "calculate_dimensions", changed)


def pipeline() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        words = tiny_qwen.tokenizer()
        seeing = Qwen2VLImageProcessor(min_pixels=4 * 28 * 28, max_pixels=16 * 28 * 28)
        transformer = LongCatImageTransformer2DModel(
            in_channels=4 * CHANNELS, num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=2,
            joint_attention_dim=tiny_qwen.WIDTH, pooled_projection_dim=tiny_qwen.WIDTH, axes_dims_rope=[4, 6, 6],
        )  # fmt: skip
        transformer.proj_out.weight.data *= 4  # so that what the blocks say is seen in the picture
        encoder = tiny_qwen.encoder(words)
        vae = tiny.autoencoder("kl", CHANNELS)
        vae.decoder.conv_out.weight.data *= 20  # random weights paint almost nothing
        made = LongCatImageEditPipeline(
            FlowMatchEulerDiscreteScheduler(), vae, encoder, words,
            Qwen2VLProcessor(seeing, words, Qwen2VLVideoProcessor()), transformer.eval(),
        )  # fmt: skip
    made.tokenizer_max_length = LENGTH
    start = made.prompt_template_encode_prefix.index("<|vision_start|>")
    made.prompt_template_encode_prefix = "<|im_start|>Look." + made.prompt_template_encode_prefix[start:]
    return made
