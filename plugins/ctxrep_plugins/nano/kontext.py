"""The transformer of `kontext-nano`: its configuration, its flow-matching loss, and the folder it becomes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from ctxrep_plugins.nano import text
from ctxrep_plugins.nano.autoencoder import CHANNELS
from ctxrep_plugins.nano.photos import BUCKETS
from diffusers import AutoencoderTiny, FlowMatchEulerDiscreteScheduler, FluxKontextPipeline, FluxTransformer2DModel
from torch import Tensor, nn

from ctxrep_edit.models import PROFILE

SHIFT = 3.0  # of the timesteps, in training as in sampling
STEPS = 12  # of the sampler
REPULSION: dict[str, object] = {}  # what tuning found better than the family's defaults


class Kontext(nn.Module):
    """All that is trained together: transformer and both text encoders."""

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
        """Predicted noise minus clean latents; `noisy`, `source` and the result (n, 16, h, w), `sigma` (n,)."""
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
            txt_ids=torch.zeros(text.LENGTH, 3),
            img_ids=torch.cat([rows, reference]),
            return_dict=False,
        )[0][:, : len(rows)]
        return FluxKontextPipeline._unpack_latents(out, h * 4, w * 4, 4)


def loss(model: Kontext, source: Tensor, target: Tensor, phrase: Tensor, generator: torch.Generator) -> Tensor:
    """Rectified-flow loss, heavier where the target differs from the source; latents (n, 16, h, w), a scalar."""
    n = len(source)
    u = torch.sigmoid(torch.randn(n, generator=generator) + 0.2)  # logit-normal
    u = torch.where(torch.rand(n, generator=generator) < 0.1, torch.rand(n, generator=generator), u)
    sigma = SHIFT * u / (1 + (SHIFT - 1) * u)
    noise = torch.randn(target.shape, generator=generator)
    s = sigma[:, None, None, None]
    predicted = model.velocity((1 - s) * target + s * noise, source, sigma, phrase).float()
    changed = ((target - source).abs().mean(1, keepdim=True) > 0.1).float()  # (n, 1, h, w)
    weight = 1 + 3 * changed
    error = (predicted - (noise - target)).square().mean(1, keepdim=True)
    return (weight * error).mean() / weight.mean()


def pipeline(model: Kontext, vae: AutoencoderTiny) -> FluxKontextPipeline:
    return FluxKontextPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=SHIFT),
        vae=vae,
        text_encoder=model.text_encoder,
        tokenizer=model.tokenizer,
        text_encoder_2=model.text_encoder_2,
        tokenizer_2=model.tokenizer_2,
        transformer=model.transformer,
    )


def save(model: Kontext, vae: AutoencoderTiny, folder: Path) -> None:
    """The pipeline's folder, the transformer in half precision to keep the wheel small."""
    whole = pipeline(model, vae)
    whole.save_pretrained(folder, safe_serialization=True)
    half = FluxTransformer2DModel.from_config(model.transformer.config)
    half.load_state_dict(model.transformer.state_dict())
    half.half().save_pretrained(folder / "transformer", safe_serialization=True)
    stated = {
        "sizes": [(w, h) for h, w in BUCKETS],
        "call": {"num_inference_steps": STEPS, "max_sequence_length": text.LENGTH, "guidance_scale": 1.0},
        "repulsion": REPULSION,
    }
    (folder / PROFILE).write_text(json.dumps(stated, indent=2) + "\n", "utf-8")
    config = folder / "vae" / "config.json"  # AutoencoderTiny writes one entry that it warns of when it reads it
    entries = json.loads(config.read_text("utf-8"))
    entries.pop("block_out_channels", None)
    config.write_text(json.dumps(entries, indent=2) + "\n", "utf-8")


def matrices(model: Kontext) -> Iterator[nn.Parameter]:
    """The weights of attention and feed-forward layers inside the blocks."""
    for name, parameter in model.transformer.named_parameters():
        if parameter.ndim == 2 and "transformer_blocks" in name and ".norm" not in name:
            yield parameter
