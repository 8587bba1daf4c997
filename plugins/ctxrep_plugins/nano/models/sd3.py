"""`sd3-nano`: an instruction-edited Stable Diffusion 3 in miniature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from ctxrep_adapters.sd3_instruct import StableDiffusion3InstructPix2PixPipeline
from ctxrep_plugins.nano import text
from ctxrep_plugins.nano.models.autoencoder import CHANNELS
from ctxrep_plugins.nano.models.model import SHIFT, Model
from diffusers import AutoencoderTiny, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel
from torch import Tensor

HALF = text.WIDTH // 2  # of each of the two CLIP encoders


class Sd3(Model):
    """The source's latents are channels beside the noisy ones."""

    call: ClassVar[Mapping[str, object]] = {
        "max_sequence_length": text.LENGTH,
        "guidance_scale": 1.0,
        "image_guidance_scale": 1.0,
    }

    repulsion: ClassVar[Mapping[str, object]] = {"window": 0.14, "oversample": 3, "churn": 1.0, "hold": 0.06}

    def __init__(self) -> None:
        super().__init__()
        self.tokenizer, self.tokenizer_3 = text.clip_tokenizer(), text.t5_tokenizer()
        self.text_encoder = text.clip_encoder(self.tokenizer, HALF)
        self.text_encoder_2 = text.clip_encoder(self.tokenizer, HALF)
        self.text_encoder_3 = text.t5_encoder(self.tokenizer_3)
        self.transformer = SD3Transformer2DModel(
            sample_size=16,
            in_channels=2 * CHANNELS,
            out_channels=CHANNELS,
            num_layers=6,
            attention_head_dim=32,
            num_attention_heads=6,
            joint_attention_dim=text.WIDTH,
            caption_projection_dim=6 * 32,
            pooled_projection_dim=text.WIDTH,
            pos_embed_max_size=16,
            qk_norm="rms_norm",
        )
        phrases = text.corpus()
        self.register_buffer("clip_ids", text.token_ids(self.tokenizer, phrases), persistent=False)
        self.register_buffer("t5_ids", text.token_ids(self.tokenizer_3, phrases), persistent=False)

    def velocity(self, noisy: Tensor, source: Tensor, sigma: Tensor, phrase: Tensor) -> Tensor:
        clip_ids = self.get_buffer("clip_ids")[phrase]
        clips = [clip(clip_ids, output_hidden_states=True) for clip in (self.text_encoder, self.text_encoder_2)]
        words = torch.cat([clip.hidden_states[-2] for clip in clips], -1)  # (n, LENGTH, WIDTH), as the pipeline joins
        t5 = self.text_encoder_3(self.get_buffer("t5_ids")[phrase])[0]
        out: Tensor = self.transformer(
            hidden_states=torch.cat([noisy, source], 1),
            timestep=sigma * 1000,
            pooled_projections=torch.cat([clip[0] for clip in clips], -1),
            encoder_hidden_states=torch.cat([F.pad(words, (0, t5.shape[-1] - words.shape[-1])), t5], 1),
            return_dict=False,
        )[0]
        return out

    def pipeline(self, vae: AutoencoderTiny) -> StableDiffusion3InstructPix2PixPipeline:
        return StableDiffusion3InstructPix2PixPipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(shift=SHIFT),
            vae=vae,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            text_encoder_2=self.text_encoder_2,
            tokenizer_2=self.tokenizer,
            text_encoder_3=self.text_encoder_3,
            tokenizer_3=self.tokenizer_3,
            transformer=self.transformer,
            normalized_latents=True,
        )


class Sd3Turbo(Sd3):
    """`sd3-nano`, distilled: four steps; all but the transformer is sd3-nano's."""

    steps = 4
    base = "sd3-nano"
    repulsion: ClassVar[Mapping[str, object]] = {"strength": 5.0, "churn": 1.0}  # no weaker was better
