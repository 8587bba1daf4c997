"""Tiny pipelines of FLUX.1 beside Kontext."""

from __future__ import annotations

from typing import Any

import tiny
import torch
from diffusers import FluxFillPipeline, FluxImg2ImgPipeline, FluxInpaintPipeline, FluxTransformer2DModel

from ctxrep_edit.testing import tiny_pipeline

CLASSES = (FluxFillPipeline, FluxImg2ImgPipeline, FluxInpaintPipeline)
FACTOR = 4  # of the autoencoder, to a side


def pipeline(cls: type) -> Any:
    parts = {name: part for name, part in tiny_pipeline().components.items() if part is not None}
    with torch.random.fork_rng(devices=[]):
        parts["vae"] = vae = tiny.autoencoder("kl")
        vae.decoder.conv_out.weight.data *= 20  # random weights paint almost nothing
        if cls is FluxFillPipeline:
            config = parts["transformer"].config
            keep = ("patch_size", "num_layers", "num_single_layers", "attention_head_dim", "num_attention_heads",
                    "joint_attention_dim", "pooled_projection_dim", "guidance_embeds", "axes_dims_rope")  # fmt: skip
            torch.manual_seed(3)
            parts["transformer"] = FluxTransformer2DModel(
                in_channels=4 * (2 * tiny.CHANNELS + FACTOR**2), out_channels=4 * tiny.CHANNELS,
                **{name: config[name] for name in keep},
            ).eval()  # fmt: skip
    parts["transformer"].proj_out.weight.data *= 4  # so that what the blocks say is seen in the picture
    return cls(**parts)
