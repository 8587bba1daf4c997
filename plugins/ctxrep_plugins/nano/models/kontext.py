"""`kontext-nano`: FLUX.1 Kontext in miniature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from ctxrep_plugins.nano import text
from ctxrep_plugins.nano.models.autoencoder import CHANNELS
from ctxrep_plugins.nano.models.model import SHIFT, Model
from diffusers import AutoencoderTiny, FlowMatchEulerDiscreteScheduler, FluxKontextPipeline, FluxTransformer2DModel
from torch import Tensor


class Kontext(Model):
    """The source's latents follow the noisy ones as tokens of their own."""

    call: ClassVar[Mapping[str, object]] = {"max_sequence_length": text.LENGTH, "guidance_scale": 1.0}

    repulsion: ClassVar[Mapping[str, object]] = {"oversample": 3, "churn": 1.0, "hold": 0.06}

    def __init__(self) -> None:
        super().__init__()
        self.tokenizer, self.tokenizer_2 = text.clip_tokenizer(), text.t5_tokenizer()
        self.text_encoder = text.clip_encoder(self.tokenizer)
        self.text_encoder_2 = text.t5_encoder(self.tokenizer_2)
        self.transformer = FluxTransformer2DModel(
            in_channels=4 * CHANNELS,
            num_layers=4,
            num_single_layers=4,
            attention_head_dim=32,
            num_attention_heads=6,
            joint_attention_dim=text.WIDTH,
            pooled_projection_dim=text.WIDTH,
            axes_dims_rope=(8, 12, 12),
        )
        phrases = text.corpus()
        self.register_buffer("clip_ids", text.token_ids(self.tokenizer, phrases), persistent=False)
        self.register_buffer("t5_ids", text.token_ids(self.tokenizer_2, phrases), persistent=False)

    def velocity(self, noisy: Tensor, source: Tensor, sigma: Tensor, phrase: Tensor) -> Tensor:
        n, channels, h, w = noisy.shape
        rows = FluxKontextPipeline._prepare_latent_image_ids(n, h // 2, w // 2, noisy.device, noisy.dtype)
        reference = rows.clone()
        reference[:, 0] = 1
        packed = [FluxKontextPipeline._pack_latents(x, n, channels, h, w) for x in (noisy, source)]
        out = self.transformer(
            hidden_states=torch.cat(packed, 1),
            timestep=sigma,
            pooled_projections=self.text_encoder(self.get_buffer("clip_ids")[phrase]).pooler_output,
            encoder_hidden_states=self.text_encoder_2(self.get_buffer("t5_ids")[phrase])[0],
            txt_ids=torch.zeros(text.LENGTH, 3, device=noisy.device),
            img_ids=torch.cat([rows, reference]),
            return_dict=False,
        )[0][:, : len(rows)]
        return FluxKontextPipeline._unpack_latents(out, h * 4, w * 4, 4)

    def pipeline(self, vae: AutoencoderTiny) -> FluxKontextPipeline:
        return FluxKontextPipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(shift=SHIFT),
            vae=vae,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            text_encoder_2=self.text_encoder_2,
            tokenizer_2=self.tokenizer_2,
            transformer=self.transformer,
        )
