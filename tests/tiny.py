"""Real FLUX Kontext pipelines, as small as the classes allow, with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from ctxrep_plugins.nano import text
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    FlowMatchEulerDiscreteScheduler,
    FluxKontextPipeline,
    FluxTransformer2DModel,
)
from PIL import Image

CHANNELS = 4  # of the latents, a quarter of the picture a side
SIDE = 32  # pixels
GENERATED = (SIDE // 8) ** 2  # tokens of a square picture, and of its reference
LENGTH = text.LENGTH  # text tokens
WIDTH = 32  # of a token
STEPS = 4
WORDS = "change the light"
TOKENS = 4  # of WORDS in the T5 tokenizer, its end among them


def autoencoder(kind: str = "tiny") -> torch.nn.Module:
    torch.manual_seed(1)
    if kind == "tiny":
        made = AutoencoderTiny(
            encoder_block_out_channels=(8, 8, 8),
            decoder_block_out_channels=(8, 8, 8),
            num_encoder_blocks=(1, 1, 1),
            num_decoder_blocks=(1, 1, 1),
            latent_channels=CHANNELS,
        ).eval()
        made.decoder.layers[-1].weight.data *= 20  # random weights paint almost nothing
        return made
    return AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=CHANNELS,
        shift_factor=0.1,
        scaling_factor=0.5,
    ).eval()


def transformer(guidance_embeds: bool = False) -> FluxTransformer2DModel:
    torch.manual_seed(2)
    made = FluxTransformer2DModel(
        in_channels=4 * CHANNELS,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=text.WIDTH,
        pooled_projection_dim=text.WIDTH,
        axes_dims_rope=(4, 6, 6),
        guidance_embeds=guidance_embeds,
    ).eval()
    made.proj_out.weight.data *= 4  # so that what the blocks say is seen in the picture
    return made


def pipeline(kind: str = "tiny", **options: Any) -> FluxKontextPipeline:
    clip, t5 = text.clip_tokenizer(), text.t5_tokenizer()
    torch.manual_seed(3)
    return FluxKontextPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=autoencoder(kind),
        text_encoder=text.clip_encoder(clip).eval(),
        tokenizer=clip,
        text_encoder_2=text.t5_encoder(t5).eval(),
        tokenizer_2=t5,
        transformer=transformer(**options),
    )


def save(folder: Path) -> None:
    """The pipeline as a model folder, with the profile that keeps it small."""
    pipeline().save_pretrained(folder)
    config = folder / "vae" / "config.json"  # AutoencoderTiny writes one entry that it warns of when it reads it
    entries = json.loads(config.read_text("utf-8"))
    entries.pop("block_out_channels", None)
    config.write_text(json.dumps(entries), "utf-8")
    profile = {
        "sizes": [[SIDE, SIDE], [SIDE * 3 // 2, SIDE], [SIDE, SIDE * 3 // 2]],
        "call": {"num_inference_steps": STEPS, "max_sequence_length": LENGTH},
    }
    (folder / "ctxrep.json").write_text(json.dumps(profile), "utf-8")


def run(pipe: Any, picture: Image.Image, n: int = 3, *, first: int = 0, **options: Any) -> torch.Tensor:
    """The latents that a plain call of the pipeline makes: (n, tokens, 4 * CHANNELS)."""
    call = {
        "prompt": WORDS,
        "num_images_per_prompt": n,
        "generator": [torch.Generator().manual_seed(first + i) for i in range(n)],
        "num_inference_steps": STEPS,
        "max_sequence_length": LENGTH,
        "_auto_resize": False,
        "output_type": "latent",
        **dict.fromkeys(("width", "height"), SIDE),
    }
    pipe.set_progress_bar_config(disable=True)
    return pipe(image=picture.resize((SIDE, SIDE)), max_area=SIDE**2, **(call | options)).images


def traces(module: torch.nn.Module) -> list[tuple[Any, ...]]:
    """What attaching could leave behind on any of the modules."""
    return [
        (
            name,
            sorted(part.__dict__),
            part.__dict__.get("forward"),
            len(part._forward_hooks),
            len(part._forward_pre_hooks),
        )
        for name, part in module.named_modules()
    ]
