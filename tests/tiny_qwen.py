"""A tiny `QwenImageEditPipeline`."""

from __future__ import annotations

import torch
from diffusers import (
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImageEditPipeline,
    QwenImageTransformer2DModel,
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


def pipeline() -> QwenImageEditPipeline:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        words = _tokenizer()
        seeing = Qwen2VLImageProcessor(min_pixels=4 * 28 * 28, max_pixels=16 * 28 * 28)
        vae = AutoencoderKLQwenImage(
            base_dim=8, z_dim=CHANNELS, dim_mult=[1, 2], num_res_blocks=1, temperal_downsample=[False],
            latents_mean=[0.1] * CHANNELS, latents_std=[1.3] * CHANNELS,
        )  # fmt: skip
        transformer = QwenImageTransformer2DModel(
            in_channels=4 * CHANNELS, out_channels=CHANNELS, num_layers=3, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=WIDTH, axes_dims_rope=(4, 6, 6),
        )  # fmt: skip
        transformer.proj_out.weight.data *= 4  # so that what the blocks say is seen in the picture
        made = QwenImageEditPipeline(
            FlowMatchEulerDiscreteScheduler(), vae.eval(), _encoder(words), words,
            Qwen2VLProcessor(seeing, words, Qwen2VLVideoProcessor()), transformer.eval(),
        )  # fmt: skip
    before = made.prompt_template_encode.partition("<|vision_start|>")[0]
    made.prompt_template_encode_start_idx = len(words(before)["input_ids"])
    return made


def _tokenizer() -> Qwen2TokenizerFast:
    """Each byte is a token."""
    vision = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *vision]
    vocab = {token: i for i, token in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    return Qwen2TokenizerFast(vocab=vocab, merges=[], pad_token=special[0], additional_special_tokens=special[1:])


def _encoder(words: Qwen2TokenizerFast) -> Qwen2_5_VLForConditionalGeneration:
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
