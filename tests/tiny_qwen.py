"""Tiny pipelines of Qwen-Image that edit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImageEditInpaintPipeline,
    QwenImageEditPipeline,
    QwenImageEditPlusPipeline,
    QwenImageTransformer2DModel,
)
from diffusers.pipelines.qwenimage import (
    pipeline_qwenimage_edit,
    pipeline_qwenimage_edit_inpaint,
    pipeline_qwenimage_edit_plus,
)
from tokenizers import pre_tokenizers
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2TokenizerFast,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
)

WIDTH = 32  # of the text encoder
CHANNELS = 4  # of the latents
AREA = 96 * 64  # pixels of the source as they look at it
CLASSES = (QwenImageEditPipeline, QwenImageEditPlusPipeline, QwenImageEditInpaintPipeline)
SYSTEM = "Describe the key features"  # where their templates begin to be long, and a letter is a token here


class Certain(AutoencoderKLQwenImage):
    """Encodes without noise, as the spread of random weights is none that a trained autoencoder has."""

    def encode(self, *args: Any, **options: Any) -> Any:
        out = super().encode(*args, **options)
        out.latent_dist.std = torch.zeros_like(out.latent_dist.std)
        return out


def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the pipelines look at sources of `AREA` pixels instead of a megapixel."""
    for module in (pipeline_qwenimage_edit, pipeline_qwenimage_edit_inpaint):
        true = module.calculate_dimensions
        monkeypatch.setattr(module, "calculate_dimensions", lambda area, ratio, true=true: true(AREA, ratio))
    monkeypatch.setattr(pipeline_qwenimage_edit_plus, "VAE_IMAGE_SIZE", AREA)
    monkeypatch.setattr(pipeline_qwenimage_edit_plus, "CONDITION_IMAGE_SIZE", 64 * 64)


def pipeline(cls: type = QwenImageEditPipeline) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        words = tokenizer()
        seeing = Qwen2VLImageProcessor(min_pixels=4 * 28 * 28, max_pixels=16 * 28 * 28)
        vae = Certain(
            base_dim=8, z_dim=CHANNELS, dim_mult=[1, 2, 2], num_res_blocks=1, temperal_downsample=[False, False],
            latents_mean=[0.1] * CHANNELS, latents_std=[1.3] * CHANNELS,
        )  # fmt: skip
        transformer = QwenImageTransformer2DModel(
            in_channels=4 * CHANNELS, out_channels=CHANNELS, num_layers=3, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=WIDTH, axes_dims_rope=(4, 6, 6),
        )  # fmt: skip
        transformer.proj_out.weight.data *= 4  # so that what the blocks say is seen in the picture
        made = cls(
            FlowMatchEulerDiscreteScheduler(), vae.eval(), encoder(words), words,
            Qwen2VLProcessor(seeing, words, Qwen2VLVideoProcessor()), transformer.eval(),
        )  # fmt: skip
    shorter = made.prompt_template_encode.partition(SYSTEM)
    made.prompt_template_encode = shorter[0] + "Look." + shorter[2][shorter[2].index("<|im_end|>") :]
    before = made.prompt_template_encode.partition("<|vision_start|>")[0]
    before = before.partition("{}")[0]  # of several pictures the vision tokens are put in with the words
    made.prompt_template_encode_start_idx = len(words(before)["input_ids"])
    return made


def tokenizer() -> Qwen2TokenizerFast:
    """Each byte is a token."""
    vision = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *vision]
    vocab = {token: i for i, token in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    return Qwen2TokenizerFast(vocab=vocab, merges=[], pad_token=special[0], additional_special_tokens=special[1:])


def encoder(words: Qwen2TokenizerFast) -> Qwen2_5_VLForConditionalGeneration:
    number = words.convert_tokens_to_ids
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(words), "hidden_size": WIDTH, "intermediate_size": WIDTH, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 1, "bos_token_id": 0, "eos_token_id": 0,
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0},
        },
        vision_config={
            "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": WIDTH,
            "fullatt_block_indexes": [0], "window_size": 112,
        },
        image_token_id=number("<|image_pad|>"), video_token_id=number("<|video_pad|>"),
        vision_start_token_id=number("<|vision_start|>"), vision_end_token_id=number("<|vision_end|>"),
    )  # fmt: skip
    return Qwen2_5_VLForConditionalGeneration(config).eval()
