"""A diffusers pipeline that edits by instruction, as small as one can be. It stands for the one that you drive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny, ConfigMixin, DiffusionPipeline, FlowMatchEulerDiscreteScheduler, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn

LENGTH, PADDING = 32, 0  # text tokens, one per letter


def letters(text: str) -> Tensor:
    """The instruction as numbers, one per letter: (1, LENGTH)."""
    codes = [1 + ord(letter) % 256 for letter in text[:LENGTH]]
    return torch.tensor([codes + [PADDING] * (LENGTH - len(codes))])


class Block(nn.Module):
    """Attention over [image | text]; returns them in that order."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, image: Tensor, text: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.cat([image, text], 1)  # (batch, tokens, width)
        qkv = self.qkv(self.norm(x + time)).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.transpose(1, 3).unbind(2)  # each (batch, heads, tokens, width / heads)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        x = x + self.mlp(x)
        return x[:, : image.shape[1]], x[:, image.shape[1] :]


class HelloTransformer(ModelMixin, ConfigMixin):
    @register_to_config
    def __init__(self, channels: int = 4, width: int = 32, heads: int = 2, layers: int = 2) -> None:
        super().__init__()
        self.enter, self.place, self.time = nn.Linear(channels, width), nn.Linear(3, width), nn.Linear(1, width)
        self.words = nn.Embedding(257, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.leave = nn.Linear(width, channels)

    def forward(self, hidden_states: Tensor, words: Tensor, places: Tensor, t: Tensor) -> Tensor:
        """hidden_states: (batch, tokens, channels). words: (batch, LENGTH). places: (tokens, 3). t: (batch,)."""
        image, text = self.enter(hidden_states) + self.place(places), self.words(words)
        time = self.time(t[:, None, None].to(image.dtype) / 1000)  # (batch, 1, width)
        for block in self.blocks:
            image, text = block(image, text, time)
        return self.leave(image)


class HelloEditPipeline(DiffusionPipeline):
    def __init__(
        self, vae: AutoencoderTiny, transformer: HelloTransformer, scheduler: FlowMatchEulerDiscreteScheduler
    ) -> None:
        super().__init__()
        self.register_modules(vae=vae, transformer=transformer, scheduler=scheduler)
        self.image_processor = VaeImageProcessor(vae_scale_factor=8)

    @property
    def do_classifier_free_guidance(self) -> bool:
        return self._guided

    @property
    def num_timesteps(self) -> int:
        return len(self.scheduler.timesteps)

    @torch.no_grad()
    def __call__(
        self,
        image: Any,
        prompt: str,
        negative_prompt: str = "",
        width: int = 64,
        height: int = 64,
        num_inference_steps: int = 8,
        guidance_scale: float = 3.0,
        num_images_per_prompt: int = 1,
        generator: Any = None,
        output_type: str = "pil",
        callback_on_step_end: Callable[..., dict[str, Any]] | None = None,
    ) -> ImagePipelineOutput:
        # 1. What is known: the source as latents, its tokens' places, the words.
        device, n, self._guided = self._execution_device, num_images_per_prompt, guidance_scale > 1
        pixels = self.image_processor.preprocess(image, height, width).to(device, self.vae.dtype)
        source = self.vae.encode(pixels).latents  # (1, channels, h, w)
        reference = source.flatten(2).transpose(1, 2).expand(n, -1, -1)  # (n, h * w, channels)
        rows, columns = (torch.linspace(-1, 1, side, dtype=source.dtype, device=device) for side in source.shape[2:])
        grid = torch.cartesian_prod(rows, columns)  # (h * w, 2)
        places = torch.cat([F.pad(grid, (0, 1), value=part) for part in (0.0, 1.0)])  # (2 * h * w, 3)
        said = [negative_prompt, prompt] if self._guided else [prompt]
        words = torch.cat([letters(text).expand(n, -1) for text in said]).to(device)  # (batch, LENGTH)
        # 2. The steps.
        latents = randn_tensor(reference.shape, generator, device, source.dtype)
        self.scheduler.set_timesteps(num_inference_steps, device=device)
        for i, t in enumerate(self.progress_bar(self.scheduler.timesteps)):
            tokens = torch.cat([latents, reference], 1).repeat(len(said), 1, 1)  # (batch, 2 * h * w, channels)
            velocity = self.transformer(hidden_states=tokens, words=words, places=places, t=t.expand(len(tokens)))
            velocity = velocity[:, : latents.shape[1]]
            if self._guided:
                negative, positive = velocity.chunk(2)
                velocity = negative + guidance_scale * (positive - negative)
            latents = self.scheduler.step(velocity, t, latents, return_dict=False)[0]
            if callback_on_step_end is not None:
                latents = callback_on_step_end(self, i, t, {"latents": latents}).pop("latents", latents)
        # 3. The pictures.
        made = self.vae.decode(latents.transpose(1, 2).unflatten(2, source.shape[2:])).sample
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=self.image_processor.postprocess(made, output_type))
