"""qwen-nano without the outer levels of its autoencoder, which only average pixels and show them again: they take nine
tenths of its time, and `tests/nano/test_qwen.py` holds them to that."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from ctxrep_plugins.nano import WEIGHTS
from ctxrep_plugins.nano.models.qwen_autoencoder import ZOOM, inner
from diffusers import AutoencoderTiny
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from torch import Tensor


def quick(pipeline: Any) -> Any:
    """`pipeline`, a loaded qwen-nano, whose autoencoder computes the inner levels alone from now on."""
    vae = pipeline.vae
    tiny = AutoencoderTiny.from_pretrained(WEIGHTS / "kontext-nano", subfolder="vae")

    def encode(pictures: Tensor) -> AutoencoderKLOutput:
        mean = tiny.encode(F.avg_pool2d(pictures[:, :, 0], ZOOM)).latents.unsqueeze(2)  # (n, 16, 1, h, w)
        certain = torch.full_like(mean, -30)
        return AutoencoderKLOutput(latent_dist=DiagonalGaussianDistribution(torch.cat([mean, certain], 1)))

    def decode(latents: Tensor, return_dict: bool = True) -> DecoderOutput | tuple[Tensor]:
        shown = inner(vae, latents[:, :, 0]).clamp(-1, 1)
        sample = shown.repeat_interleave(ZOOM, 2).repeat_interleave(ZOOM, 3).unsqueeze(2)  # (n, 3, 1, height, width)
        return DecoderOutput(sample=sample) if return_dict else (sample,)

    vae.encode, vae.decode = encode, decode
    return pipeline
