"""Real Stable Diffusion 3 pipelines, as small as the classes allow, with random weights."""

from __future__ import annotations

from typing import Any

import tiny
import torch
from ctxrep_adapters.sd3_instruct import StableDiffusion3InstructPix2PixPipeline
from ctxrep_plugins.nano import text
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    SD3ControlNetModel,
    SD3Transformer2DModel,
    StableDiffusion3ControlNetInpaintingPipeline,
    StableDiffusion3Img2ImgPipeline,
    StableDiffusion3InpaintPipeline,
)

CHANNELS = 16  # the inpainting pipeline knows no other number
BLOCKS = 3  # the last one returns no text
DUAL = (0, 1)  # blocks with a second attention, as in SD3.5
WIDTH = 32


def autoencoder() -> torch.nn.Module:
    made = tiny.autoencoder("kl", CHANNELS)
    made.decoder.conv_out.weight.data *= 20  # random weights paint almost nothing
    return made


def transformer(pictures: int = 1, blocks: int = BLOCKS, dual: tuple[int, ...] = DUAL) -> SD3Transformer2DModel:
    """For that many pictures' latents as channels. dual: the blocks with a second attention; none in SD3.0."""
    torch.manual_seed(5)
    made = SD3Transformer2DModel(
        sample_size=16,
        in_channels=CHANNELS * pictures,
        out_channels=CHANNELS,
        num_layers=blocks,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=text.WIDTH,
        caption_projection_dim=WIDTH,
        pooled_projection_dim=text.WIDTH,
        pos_embed_max_size=192,  # so that it also makes the size that the adapter asks for
        dual_attention_layers=dual,
        qk_norm="rms_norm" if dual else None,
    ).eval()
    made.proj_out.weight.data *= 4  # so that what the blocks say is seen in the picture
    return made


def pipeline(cls: type, t5: bool = True, pictures: int | None = None, **options: Any) -> Any:
    """options: of the class, or a transformer of one's own."""
    clip, words = text.clip_tokenizer(), text.t5_tokenizer()
    if pictures is None:
        pictures = 2 if cls is StableDiffusion3InstructPix2PixPipeline else 1
    torch.manual_seed(6)
    parts: dict[str, Any] = {
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0),
        "vae": autoencoder(),
        "text_encoder": text.clip_encoder(clip, text.WIDTH // 2).eval(),
        "tokenizer": clip,
        "text_encoder_2": text.clip_encoder(clip, text.WIDTH // 2).eval(),
        "tokenizer_2": clip,
        "text_encoder_3": text.t5_encoder(words).eval() if t5 else None,
        "tokenizer_3": words if t5 else None,
        "transformer": transformer(pictures),
    }
    if cls is StableDiffusion3ControlNetInpaintingPipeline:
        torch.manual_seed(7)
        config = {**parts["transformer"].config, "num_layers": 2, "extra_conditioning_channels": 1}
        keep = ("sample_size", "patch_size", "in_channels", "num_layers", "attention_head_dim", "num_attention_heads",
                "joint_attention_dim", "caption_projection_dim", "pooled_projection_dim", "out_channels",
                "pos_embed_max_size", "extra_conditioning_channels")  # fmt: skip
        made = parts["controlnet"] = SD3ControlNetModel(**{k: config[k] for k in keep}).eval()
        for layer in (made.pos_embed_input.proj, *made.controlnet_blocks):  # zero at first: it would say nothing
            torch.nn.init.normal_(layer.weight, std=0.1)
    return cls(**parts | options)


CLASSES = (
    StableDiffusion3Img2ImgPipeline,
    StableDiffusion3InpaintPipeline,
    StableDiffusion3ControlNetInpaintingPipeline,
    StableDiffusion3InstructPix2PixPipeline,
)
