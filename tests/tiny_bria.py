"""A tiny `BriaFiboEditPipeline`."""

from __future__ import annotations

from typing import Any

import pytest
import tiny_joyimage
import tiny_qwen
import torch
from diffusers import BriaFiboEditPipeline, BriaFiboTransformer2DModel, FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.bria_fibo import pipeline_bria_fibo_edit
from transformers import SmolLM3Config, SmolLM3ForCausalLM

WIDTH = 16  # of the text encoder
EMPTY = 128000  # the token that the pipeline takes for an empty prompt
SIZES = [(96, 64), (64, 96), (64, 64)]


def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the pipeline know small sizes alone."""
    monkeypatch.setattr(pipeline_bria_fibo_edit, "PREFERRED_RESOLUTION", {1024 * 1024: SIZES})


def pipeline() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        words = tiny_qwen.tokenizer()
        encoder = SmolLM3ForCausalLM(
            SmolLM3Config(
                vocab_size=EMPTY + 1, hidden_size=WIDTH, intermediate_size=WIDTH, num_hidden_layers=3,
                num_attention_heads=2, num_key_value_heads=1, pad_token_id=0, bos_token_id=None, eos_token_id=None,
            )
        )  # fmt: skip
        transformer = BriaFiboTransformer2DModel(
            in_channels=tiny_joyimage.CHANNELS, num_layers=2, num_single_layers=2, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=2 * WIDTH, text_encoder_dim=WIDTH, axes_dims_rope=[4, 6, 6],
        )  # fmt: skip
        transformer.proj_out.weight.data *= 4  # so that what the blocks say is seen in the picture
        vae = tiny_joyimage.autoencoder(patch_size=2, in_channels=12, out_channels=12, scale_factor_spatial=16)
        return BriaFiboEditPipeline(
            transformer.eval(), FlowMatchEulerDiscreteScheduler(), vae, encoder.eval(), words
        )  # fmt: skip
