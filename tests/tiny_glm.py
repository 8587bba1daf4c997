"""A tiny `GlmImagePipeline`, without the language model: what that would write is made of the prompt's letters."""

from __future__ import annotations

import zlib
from typing import Any

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, GlmImagePipeline, GlmImageTransformer2DModel
from transformers import ByT5Tokenizer, T5Config, T5EncoderModel

CHANNELS = 4  # of the latents
CODES = 32  # tokens of the picture that the language model knows
TOKEN = 8  # pixels a side


class Written(GlmImagePipeline):
    def generate_prior_tokens(
        self, prompt: str, height: int, width: int, image: Any = None, device: Any = None, generator: Any = None
    ) -> Any:
        high, wide = height // TOKEN, width // TOKEN
        drawn = torch.Generator().manual_seed(zlib.crc32(prompt.encode()))
        target, *sources = (
            torch.randint(CODES, (high * wide,), generator=drawn) if i == 0 else torch.arange(high * wide) % CODES
            for i in range(1 + len(image[0]))
        )
        grids = torch.tensor([[1, high, wide]] * len(image[0]))
        return target[None], [torch.cat(sources)], [grids]


def pipeline() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        words = ByT5Tokenizer(extra_ids=0)
        encoder = T5EncoderModel(
            T5Config(vocab_size=400, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, dropout_rate=0.0)
        )
        vae = AutoencoderKL(
            block_out_channels=(8, 8, 8), down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3, layers_per_block=1, norm_num_groups=4, latent_channels=CHANNELS,
            latents_mean=[0.1] * CHANNELS, latents_std=[1.3] * CHANNELS,
        ).eval()  # fmt: skip
        vae.decoder.conv_out.weight.data *= 20  # random weights paint almost nothing
        transformer = GlmImageTransformer2DModel(
            in_channels=CHANNELS, out_channels=CHANNELS, num_layers=3, attention_head_dim=16, num_attention_heads=2,
            text_embed_dim=16, time_embed_dim=16, condition_dim=8, prior_vq_quantizer_codebook_size=CODES,
        ).eval()  # fmt: skip
        transformer.proj_out.weight.data *= 4  # so that what the blocks say is seen in the picture
        return Written(words, None, encoder.eval(), None, vae, transformer, FlowMatchEulerDiscreteScheduler())
