"""`qwen-nano`: Qwen-Image that edits, in miniature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from ctxrep_plugins.nano import text, vision
from ctxrep_plugins.nano.models.autoencoder import CHANNELS, PATCH
from ctxrep_plugins.nano.models.model import SHIFT, Model
from ctxrep_plugins.nano.models.qwen_autoencoder import ZOOM
from ctxrep_plugins.nano.world.photos import BUCKETS
from diffusers import (
    AutoencoderKLQwenImage,
    AutoencoderTiny,
    FlowMatchEulerDiscreteScheduler,
    QwenImageEditPipeline,
    QwenImageTransformer2DModel,
)
from torch import Tensor


class Qwen(Model):
    """The source's latents follow the noisy ones as tokens of their own, and the text holds what a Qwen2.5-VL sees."""

    call: ClassVar[Mapping[str, object]] = {"true_cfg_scale": 1.0, "negative_prompt": None}
    buckets = BUCKETS[:3]  # the pipeline brings every picture to a megapixel, and these fit its multiples there
    zoom = ZOOM
    halved = ("transformer", "text_encoder", "vae")
    # chosen on tuning photographs: docs/qwen-nano.md
    repulsion: ClassVar[Mapping[str, object]] = {"strength": 1.0, "window": 0.14, "oversample": 2, "churn": 1.0}

    def __init__(self) -> None:
        super().__init__()
        self.tokenizer = vision.tokenizer()
        self.processor = vision.processor(self.tokenizer)
        self.text_encoder = vision.encoder(self.tokenizer)
        self.transformer = QwenImageTransformer2DModel(
            in_channels=4 * CHANNELS,
            out_channels=CHANNELS,
            num_layers=8,
            attention_head_dim=32,
            num_attention_heads=6,
            joint_attention_dim=text.WIDTH,
            axes_dims_rope=(8, 12, 12),
        )
        turns = [vision.TEMPLATE.format(phrase) for phrase in text.corpus()]
        tokens = self.tokenizer(turns, padding=True, padding_side="right", return_tensors="pt")
        self.register_buffer("ids", tokens["input_ids"], persistent=False)
        self.register_buffer("real", tokens["attention_mask"], persistent=False)

    @torch.no_grad()
    def see(self, vae: AutoencoderTiny) -> None:
        last = vae.encoder.layers[-1]  # its weights are principal components of the patches, (16, 48)
        back = torch.linalg.pinv(last.weight[:, :, 1, 1].double())
        self.register_buffer("back", (back / vae.config.scaling_factor).float(), persistent=False)
        self.register_buffer("mean", (-back @ last.bias.double()).float(), persistent=False)

    def looks(self, source: Tensor) -> Tensor:
        """What the encoder sees of `source`, (n, 16, h, w) latents: (n, 3, height, width) in [-1, 1]."""
        h, w = source.shape[2:]
        flat = torch.einsum("pc,nchw->nphw", self.get_buffer("back"), source) + self.get_buffer("mean")[:, None, None]
        picture = F.pixel_shuffle(F.pixel_shuffle(flat, 2), 2).clamp(0, 1) * 2 - 1
        unit = vision.PATCH * vision.MERGED
        size = (h * PATCH // unit * unit, w * PATCH // unit * unit)
        return F.interpolate(picture, size, mode="bicubic", antialias=True, align_corners=False)

    def words(self, picture: Tensor, phrase: Tensor) -> tuple[Tensor, Tensor]:
        """The text tokens, (n, tokens, WIDTH), and which of them are real, (n, tokens)."""
        n = len(picture)
        process = self.processor.image_processor
        patches, *grid = process.patchify(picture, process.patch_size, process.merge_size, process.temporal_patch_size)
        count = grid[0] * grid[1] // vision.MERGED**2
        where = int((self.get_buffer("ids")[0] == self.text_encoder.config.image_token_id).nonzero())
        ids, real = (
            torch.cat([x[:, :where], x[:, where : where + 1].expand(-1, count), x[:, where + 1 :]], 1)
            for x in (self.get_buffer("ids")[phrase], self.get_buffer("real")[phrase])
        )
        hidden = self.text_encoder.model(
            input_ids=ids,
            attention_mask=real,
            pixel_values=patches.flatten(0, 1),
            image_grid_thw=torch.tensor([[1, *grid]], device=ids.device).expand(n, 3),
        ).last_hidden_state
        return hidden[:, vision.DROPPED :], real[:, vision.DROPPED :]

    def velocity(self, noisy: Tensor, source: Tensor, sigma: Tensor, phrase: Tensor) -> Tensor:
        n, channels, h, w = noisy.shape
        words, real = self.words(self.looks(source), phrase)
        packed = [QwenImageEditPipeline._pack_latents(x, n, channels, h, w) for x in (noisy, source)]
        out = self.transformer(
            hidden_states=torch.cat(packed, 1),
            timestep=sigma,
            encoder_hidden_states=words,
            encoder_hidden_states_mask=real,
            img_shapes=[[(1, h // 2, w // 2)] * 2] * n,
            return_dict=False,
        )[0][:, : packed[0].shape[1]]
        return QwenImageEditPipeline._unpack_latents(out, h * 4, w * 4, 4)[:, :, 0]

    def pipeline(self, vae: AutoencoderKLQwenImage) -> QwenImageEditPipeline:
        return QwenImageEditPipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(shift=SHIFT),
            vae=vae,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            processor=self.processor,
            transformer=self.transformer,
        )
