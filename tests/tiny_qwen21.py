"""Tiny modular pipelines of Qwen-Image-2.1."""

from __future__ import annotations

from typing import Any

import tiny_joyimage
import tiny_qwen
import torch
from diffusers import (
    AutoencoderKLQwenImage21,
    ClassifierFreeGuidance,
    FlowMatchEulerDiscreteScheduler,
    QwenImage21Transformer2DModel,
)
from diffusers.modular_pipelines.qwenimage21 import QwenImage21AutoBlocks, QwenImage21TurboAutoBlocks
from transformers import Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor

CHANNELS = 4  # of the latents
CLASSES = (QwenImage21AutoBlocks, QwenImage21TurboAutoBlocks)
OPTIONS = {"output_resolution": 78}  # pixels a side of a square source
TURN = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content[0].text }}<|im_end|>\n{% endfor %}"


def pipeline(blocks: type) -> Any:
    pipe = blocks().init_pipeline()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        words = tiny_qwen.tokenizer()
        seeing = Qwen2VLImageProcessor(patch_size=16, min_pixels=32 * 32, max_pixels=64 * 32 * 32)
        vae = AutoencoderKLQwenImage21(
            base_dim=8, decoder_base_dim=8, z_dim=CHANNELS, dim_mult=[1] * 5, num_res_blocks=1,
            temperal_downsample=[False] * 4, latents_mean=[0.1] * CHANNELS, latents_std=[1.3] * CHANNELS,
        )  # fmt: skip
        transformer = QwenImage21Transformer2DModel(
            in_channels=CHANNELS, out_channels=CHANNELS, num_layers=3, attention_head_dim=16, num_attention_heads=2,
            context_in_dim=tiny_joyimage.WIDTH, axes_dims_rope=(4, 6, 6),
        )  # fmt: skip
        transformer.proj_out.weight.data *= 4  # so that what the blocks say is seen in the picture
        pipe.update_components(
            text_encoder=tiny_joyimage.encoder(words), vae=vae.eval(), transformer=transformer.eval(),
            processor=Qwen3VLProcessor(seeing, words, Qwen3VLVideoProcessor(), chat_template=TURN),
            scheduler=FlowMatchEulerDiscreteScheduler(),
        )  # fmt: skip
    if blocks is QwenImage21AutoBlocks:
        pipe.update_components(guider=ClassifierFreeGuidance(guidance_scale=3.0))
    return pipe
