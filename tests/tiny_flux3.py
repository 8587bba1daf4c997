"""A tiny modular pipeline of FLUX.3 [klein]."""

from __future__ import annotations

from typing import Any

import tiny_flux2
import tiny_joyimage
import tiny_qwen
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, Flux3Transformer2DModel
from diffusers.modular_pipelines.flux3 import Flux3AutoBlocks, Flux3DistilledAutoBlocks
from transformers import Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor

LAYERS = (0, 1, 2)  # of the text encoder, whose states are the text tokens
OPTIONS = {"max_sequence_length": 48, "text_encoder_out_layers": LAYERS}
CLASSES = (Flux3DistilledAutoBlocks, Flux3AutoBlocks)


def pipeline(blocks: type, upsampler: bool = False) -> Any:
    made = blocks()
    if not upsampler:  # a language model that would write another prompt
        made.sub_blocks.pop("prompt_upsampler")
    pipe = made.init_pipeline()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        words = tiny_qwen.tokenizer()
        words.chat_template = tiny_flux2.TURN
        processor = Qwen3VLProcessor(
            Qwen2VLImageProcessor(), words, Qwen3VLVideoProcessor(), chat_template=words.chat_template
        )
        transformer = Flux3Transformer2DModel(
            in_channels=4 * tiny_flux2.CHANNELS, cond_in_channels=4 * tiny_flux2.CHANNELS, num_layers=1,
            num_single_layers=3, attention_head_dim=16, num_attention_heads=2, axes_dims_rope=(4, 4, 4, 4),
            joint_attention_dim=tiny_joyimage.WIDTH * len(LAYERS), flow_map=blocks is Flux3DistilledAutoBlocks,
        )  # fmt: skip
        transformer.proj_out.weight.data *= 4  # so that what the blocks say is seen in the picture
        pipe.update_components(
            text_encoder=tiny_joyimage.encoder(words), tokenizer=processor, vae=tiny_flux2.autoencoder(),
            transformer=transformer.eval(), scheduler=FlowMatchEulerDiscreteScheduler(),
        )  # fmt: skip
    return pipe
