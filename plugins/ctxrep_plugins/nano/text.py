"""Small real text encoders: a CLIP and a T5 with tokenizers made from the words of the world."""

from __future__ import annotations

import json
import string
from collections import Counter

import torch
from ctxrep_plugins.nano import world
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

LENGTH = 16  # tokens; every phrase of the world fits, each word being one T5 token
WIDTH = 128


def corpus() -> list[str]:
    """Every phrase of the world, in a fixed order."""
    return [request.text for edit in world.EDITS for request in world.requests(edit)]


def clip_tokenizer() -> CLIPTokenizer:
    raw = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    raw.normalizer = normalizers.Lowercase()
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    letters = [*string.ascii_lowercase, *(letter + "</w>" for letter in string.ascii_lowercase)]
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=["<|startoftext|>", "<|endoftext|>", *letters],  # else the letters' order differs between runs
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    raw.train_from_iterator(corpus(), trainer)
    model = json.loads(raw.to_str())["model"]
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in model["merges"]]
    return CLIPTokenizer(vocab=model["vocab"], merges=merges, model_max_length=LENGTH)


def t5_tokenizer() -> T5Tokenizer:
    words = Counter(word for phrase in corpus() for word in phrase.split())
    total = sum(words.values())
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -12.0)]
    pieces += [(f"▁{w}", float(torch.tensor(n / total).log())) for w, n in sorted(words.items())]
    pieces += [(letter, -14.0) for letter in string.ascii_lowercase]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=LENGTH)


def clip_encoder(tokenizer: CLIPTokenizer, width: int | None = None) -> CLIPTextModel | CLIPTextModelWithProjection:
    """With a `width` one with a projection, as SD3 takes it."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width or WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2 if width is None else 3,  # SD3 reads the last layer but one
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        projection_dim=width or WIDTH,
    )
    return CLIPTextModel(config) if width is None else CLIPTextModelWithProjection(config)


def t5_encoder(tokenizer: T5Tokenizer) -> T5EncoderModel:
    return T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=WIDTH,
            d_kv=32,
            d_ff=2 * WIDTH,
            num_layers=2,
            num_heads=4,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
            is_encoder_decoder=False,
        )
    )


def token_ids(tokenizer: CLIPTokenizer | T5Tokenizer, phrases: list[str]) -> torch.Tensor:
    """(phrases, LENGTH) int64, padded as the pipeline pads."""
    out = tokenizer(phrases, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt")
    return out.input_ids
