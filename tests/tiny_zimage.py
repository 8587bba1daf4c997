"""A tiny `ZImageOmniPipeline`."""

from __future__ import annotations

from typing import Any

import tiny
import tiny_qwen
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, ZImageOmniPipeline, ZImageTransformer2DModel
from transformers import Qwen3Config, Qwen3Model, Siglip2ImageProcessor, Siglip2VisionConfig, Siglip2VisionModel

CHANNELS = 4  # of the latents
WIDTH = 16  # of the text encoder and of SigLIP
LENGTH = 64  # text tokens of a piece at most


def pipeline() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        words = tiny_qwen.tokenizer()
        encoder = Qwen3Model(
            Qwen3Config(
                vocab_size=len(words), hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=2, head_dim=8,
                num_attention_heads=2, num_key_value_heads=1,
            )
        )  # fmt: skip
        transformer = ZImageTransformer2DModel(
            in_channels=CHANNELS, dim=32, n_layers=3, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=WIDTH,
            siglip_feat_dim=WIDTH, axes_dims=[4, 6, 6], axes_lens=[512, 64, 64],
        )  # fmt: skip
        for name, weight in transformer.named_parameters():  # some are empty until they are loaded
            if "pad_token" in name:
                torch.nn.init.normal_(weight, std=0.1)
        for layer in transformer.all_final_layer.values():
            torch.nn.init.normal_(layer.linear.weight, std=0.2)  # so that what the blocks say is seen in the picture
        siglip = Siglip2VisionModel(
            Siglip2VisionConfig(
                hidden_size=WIDTH, intermediate_size=WIDTH, num_hidden_layers=1, num_attention_heads=2, patch_size=16,
                num_patches=16,
            )
        )  # fmt: skip
        vae = tiny.autoencoder("kl", CHANNELS)
        vae.decoder.conv_out.weight.data *= 20  # random weights paint almost nothing
        return ZImageOmniPipeline(
            FlowMatchEulerDiscreteScheduler(), vae.to(torch.bfloat16), encoder.eval(), words, transformer.eval(),
            siglip.eval(), Siglip2ImageProcessor(patch_size=16, max_num_patches=16),
        )  # fmt: skip
