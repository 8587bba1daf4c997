"""A small real Qwen2.5-VL, with a tokenizer made from the words of the world and of Qwen-Image's template."""

from __future__ import annotations

import json
import re

from ctxrep_plugins.nano import text
from tokenizers import pre_tokenizers, trainers
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
)

SIDE = 64  # pixels a side of a square picture as it sees it
PATCH = 8  # pixels a side; 2 x 2 patches are a token
MERGED = 2
TEMPLATE = (  # of `QwenImageEditPipeline`
    "<|im_start|>system\nDescribe the key features of the input image (color, shape, size, texture, objects, "
    "background), then explain how the user's text instruction should alter or modify the image. Generate a new image "
    "that meets the user's requirements while maintaining consistency with the original input where appropriate."
    "<|im_end|>\n<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>{}<|im_end|>\n<|im_start|>assistant\n"
)
DROPPED = 64  # tokens before the picture's, which the pipeline leaves out
VISION = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *VISION)


def tokenizer() -> Qwen2Tokenizer:
    """Each word of the world and of the template is one token, so that the template has as many as Qwen's own makes."""
    raw = Qwen2Tokenizer().backend_tokenizer
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())  # named, else their order differs between runs
    trainer = trainers.BpeTrainer(vocab_size=4096, special_tokens=[*SPECIAL, *letters], show_progress=False)
    raw.train_from_iterator([*re.split(r"<\|.*?\|>|{}", TEMPLATE), *text.corpus()], trainer)
    model = json.loads(raw.to_str())["model"]
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in model["merges"]]
    return Qwen2Tokenizer(vocab=model["vocab"], merges=merges, additional_special_tokens=list(SPECIAL[1:]))


def processor(words: Qwen2Tokenizer) -> Qwen2VLProcessor:
    looks = Qwen2VLImageProcessor(
        min_pixels=(PATCH * MERGED) ** 2, max_pixels=SIDE**2, patch_size=PATCH, merge_size=MERGED,
        image_mean=[0.5] * 3, image_std=[0.5] * 3,
    )  # fmt: skip
    return Qwen2VLProcessor(looks, words, Qwen2VLVideoProcessor(patch_size=PATCH, merge_size=MERGED))


def encoder(words: Qwen2Tokenizer) -> Qwen2_5_VLForConditionalGeneration:
    start, end, picture, video = (words.convert_tokens_to_ids(token) for token in VISION)
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(words),
            "hidden_size": text.WIDTH,
            "intermediate_size": 2 * text.WIDTH,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "max_position_embeddings": 512,
            "bos_token_id": words.eos_token_id,
            "eos_token_id": words.eos_token_id,
            "rope_parameters": {"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 10000.0},
        },
        vision_config={
            "depth": 2,
            "hidden_size": text.WIDTH // 2,
            "intermediate_size": text.WIDTH,
            "num_heads": 2,
            "out_hidden_size": text.WIDTH,
            "patch_size": PATCH,
            "spatial_merge_size": MERGED,
            "fullatt_block_indexes": [0, 1],
        },
        image_token_id=picture,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
        tie_word_embeddings=True,
    )
    return Qwen2_5_VLForConditionalGeneration(config)
