"""Tiny pipelines of JoyImage."""

from __future__ import annotations

from typing import Any

import pytest
import tiny_qwen
import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    JoyImageEditPipeline,
    JoyImageEditPlusPipeline,
    JoyImageEditPlusTransformer3DModel,
    JoyImageEditTransformer3DModel,
)
from diffusers.pipelines.joyimage import image_processor
from transformers import (
    Qwen2VLImageProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

CHANNELS = 4  # of the latents
WIDTH = 32
CLASSES = (JoyImageEditPipeline, JoyImageEditPlusPipeline)
SIZES = [(64, 96), (96, 64), (64, 64)]  # (height, width)


class Certain(AutoencoderKLWan):
    """Encodes without noise, as the spread of random weights is none that a trained autoencoder has."""

    def encode(self, *args: Any, **options: Any) -> Any:
        out = super().encode(*args, **options)
        out.latent_dist.std = torch.zeros_like(out.latent_dist.std)
        return out


def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the pipelines know small sizes alone."""
    monkeypatch.setattr(image_processor, "BUCKETS", {1024: SIZES})


def autoencoder(**options: Any) -> Any:
    made = Certain(
        base_dim=8, z_dim=CHANNELS, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False] * 3,
        latents_mean=[0.1] * CHANNELS, latents_std=[1.3] * CHANNELS, **options,
    )  # fmt: skip
    made.decoder.conv_out.weight.data *= 4  # random weights paint almost nothing
    return made.eval()


def pipeline(cls: type) -> Any:
    plus = cls is JoyImageEditPlusPipeline
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        words = tiny_qwen.tokenizer()
        words.chat_template = "{{ messages[0].content }}"
        seeing = Qwen2VLImageProcessor(
            patch_size=16, min_pixels=4 * 32 * 32, max_pixels=16 * 32 * 32, image_mean=[0.5] * 3, image_std=[0.5] * 3
        )
        transformer = (JoyImageEditPlusTransformer3DModel if plus else JoyImageEditTransformer3DModel)(
            in_channels=CHANNELS, hidden_size=WIDTH, num_attention_heads=2, text_dim=WIDTH, num_layers=3,
            rope_dim_list=[4, 6, 6],
        )  # fmt: skip
        transformer.proj_out.weight.data *= 4  # so that what the blocks say is seen in the picture
        made = cls(
            FlowMatchEulerDiscreteScheduler(), autoencoder(), encoder(words), words, transformer.eval(),
            Qwen3VLProcessor(seeing, words, Qwen3VLVideoProcessor(), chat_template=words.chat_template),
        )  # fmt: skip
    for name, template in made.prompt_template_encode.items():
        end = template.index("<|im_end|>")
        made.prompt_template_encode[name] = "<|im_start|>Look." + template[end:]
        made.prompt_template_encode_start_idx[name] = len(words("<|im_start|>Look.<|im_end|>\n")["input_ids"])
    return made


def encoder(words: Any) -> Qwen3VLForConditionalGeneration:
    number = words.convert_tokens_to_ids
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": len(words), "hidden_size": WIDTH, "intermediate_size": WIDTH, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0},
        },
        vision_config={
            "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": WIDTH,
            "num_position_embeddings": 64, "deepstack_visual_indexes": [0], "patch_size": 16,
        },
        image_token_id=number("<|image_pad|>"), video_token_id=number("<|video_pad|>"),
        vision_start_token_id=number("<|vision_start|>"), vision_end_token_id=number("<|vision_end|>"),
    )  # fmt: skip
    return Qwen3VLForConditionalGeneration(config).eval()
