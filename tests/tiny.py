"""What the tests share of the public tiny pipeline: calls of it, and a model folder."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image

from ctxrep_edit import EditSet, Repulsion, diverse_edit
from ctxrep_edit.settings import completed
from ctxrep_edit.testing import fakes, tiny_pipeline, traces

__all__ = [
    "CHANNELS",
    "DOUBLE",
    "GENERATED",
    "LENGTH",
    "SIDE",
    "SINGLE",
    "SOME",
    "STEPS",
    "TOKENS",
    "WORDS",
    "autoencoder",
    "edit",
    "pixels",
    "run",
    "save",
    "traces",
    "transformer",
]

CHANNELS = fakes.CHANNELS
SIDE = 32  # pixels
GENERATED = (SIDE // 8) ** 2  # tokens of a square picture, and of its reference
LENGTH = fakes.LENGTH  # text tokens
STEPS = 4
WORDS = fakes.INSTRUCTION
DOUBLE, SINGLE = "transformer_blocks", "single_transformer_blocks"  # the lists of its blocks
TOKENS = 4  # of WORDS in the T5 tokenizer, its end among them
SOME = completed(Repulsion(scope="generated", strength=1.0, steps=2))
edit = functools.partial(diverse_edit, instruction=WORDS, n=3, seed=0, preserve="off", progress=False)


def pixels(edits: EditSet) -> np.ndarray:
    """(n, height, width, 3)"""
    return np.stack([np.asarray(image) for image in edits.images])


def autoencoder(kind: str = "tiny", channels: int = CHANNELS) -> torch.nn.Module:
    """channels: of the latents, of any kind but "tiny"."""
    if kind == "tiny":
        return tiny_pipeline().vae
    torch.manual_seed(1)
    return AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=channels,
        shift_factor=0.1,
        scaling_factor=0.5,
    ).eval()


def transformer(guidance_embeds: bool = False) -> torch.nn.Module:
    return tiny_pipeline(guidance_embeds=guidance_embeds).transformer


def save(folder: Path, *, guidance_embeds: bool = False) -> None:
    """The pipeline as a model folder, with the profile that keeps it small."""
    tiny_pipeline(guidance_embeds=guidance_embeds).save_pretrained(folder)
    config = folder / "vae" / "config.json"  # AutoencoderTiny writes one entry that it warns of when it reads it
    entries = json.loads(config.read_text("utf-8"))
    entries.pop("block_out_channels", None)
    config.write_text(json.dumps(entries), "utf-8")
    profile = {
        "sizes": [[SIDE, SIDE], [SIDE * 3 // 2, SIDE], [SIDE, SIDE * 3 // 2]],
        "call": {"num_inference_steps": STEPS, "max_sequence_length": LENGTH},
        "repulsion": {"oversample": 1},
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
