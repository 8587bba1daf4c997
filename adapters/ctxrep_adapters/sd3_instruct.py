"""Stable Diffusion 3 that edits by instruction: a diffusers pipeline, as the UltraEdit checkpoints name it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.stable_diffusion_3.pipeline_output import StableDiffusion3PipelineOutput
from PIL import Image
from torch import Tensor
from transformers import (
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    SiglipImageProcessor,
    SiglipVisionModel,
    T5EncoderModel,
    T5TokenizerFast,
)

from ctxrep_edit import read_image

Generators = torch.Generator | list[torch.Generator] | None
EMBEDS = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")


class StableDiffusion3InstructPix2PixPipeline(StableDiffusion3Pipeline):  # type: ignore[misc]
    """InstructPix2Pix (Brooks et al. 2023, arXiv 2211.09800) on Stable Diffusion 3 (UltraEdit, arXiv 2407.05282).

    The transformer sees, as channels beside the noisy latents, the latents of the source and, where its `in_channels`
    say so, those of a mask. Guidance has two scales (eq. 3 of InstructPix2Pix) and triples the batch:
    [instruction and source | source | neither].

    normalized_latents: which latents it was trained on, as `model_index.json` states. True: the autoencoder's shift and
    scale on all of them. False, also where nothing is stated, is how the UltraEdit checkpoints were trained: source and
    mask as the autoencoder gives them, the edit with the scale alone.
    """

    _callback_tensor_inputs = ["latents", "prompt_embeds", "pooled_prompt_embeds", "image_latents"]

    def __init__(
        self,
        transformer: SD3Transformer2DModel,
        scheduler: FlowMatchEulerDiscreteScheduler,
        vae: AutoencoderKL | AutoencoderTiny,
        text_encoder: CLIPTextModelWithProjection,
        tokenizer: CLIPTokenizer,
        text_encoder_2: CLIPTextModelWithProjection,
        tokenizer_2: CLIPTokenizer,
        text_encoder_3: T5EncoderModel,
        tokenizer_3: T5TokenizerFast,
        image_encoder: SiglipVisionModel | None = None,
        feature_extractor: SiglipImageProcessor | None = None,
        normalized_latents: bool = False,
    ) -> None:
        super().__init__(
            transformer, scheduler, vae, text_encoder, tokenizer, text_encoder_2, tokenizer_2, text_encoder_3,
            tokenizer_3, image_encoder, feature_extractor,
        )  # fmt: skip
        self.register_to_config(normalized_latents=normalized_latents)

    @property
    def image_guidance_scale(self) -> float:
        return float(self._image_guidance_scale)

    @property
    def do_classifier_free_guidance(self) -> bool:
        return bool(self._guidance_scale > 1.0 and self._image_guidance_scale >= 1.0)

    @property
    def takes_mask(self) -> bool:
        """Whether the transformer has channels for a mask."""
        return bool(self.transformer.config.in_channels == 3 * self.vae.config.latent_channels)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str] | None = None,
        image: Any = None,
        mask_img: Any = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = 28,
        sigmas: Sequence[float] | None = None,
        guidance_scale: float = 7.5,
        image_guidance_scale: float = 1.5,
        negative_prompt: str | list[str] | None = None,
        num_images_per_prompt: int = 1,
        generator: Generators = None,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        pooled_prompt_embeds: Tensor | None = None,
        negative_pooled_prompt_embeds: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        joint_attention_kwargs: dict[str, Any] | None = None,
        clip_skip: int | None = None,
        callback_on_step_end: Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        max_sequence_length: int = 256,
    ) -> StableDiffusion3PipelineOutput | tuple[Any]:
        """Edits `image` as `prompt` says.

        prompt: the instruction, or one per image. image: whatever diffusers' image processor takes, one or one per
            prompt; grey is made RGB, and transparency of a PIL image is laid on white. mask_img: likewise, white where
            the edit is allowed, by default everywhere; only for a transformer with channels for it.
        height, width: in pixels; None takes the image's, rounded down to what the transformer can do.
        guidance_scale: of the instruction; 1 or less switches guidance off. image_guidance_scale: of the source, >= 1.
        The rest is as for `StableDiffusion3Pipeline`. Raises ValueError for inputs that do not fit the transformer.
        """
        # 1. What is asked.
        self._guidance_scale, self._image_guidance_scale = guidance_scale, image_guidance_scale
        self._clip_skip, self._joint_attention_kwargs, self._interrupt = clip_skip, joint_attention_kwargs, False
        image, mask_img = _rgb(image), _rgb(mask_img)
        self._check(image, mask_img)
        height, width = self._size(image, height, width)
        given = (prompt_embeds, negative_prompt_embeds, pooled_prompt_embeds, negative_pooled_prompt_embeds)
        embeds = dict(zip(EMBEDS, given, strict=True))
        self.check_inputs(
            prompt, None, None, height, width, negative_prompt=negative_prompt, max_sequence_length=max_sequence_length,
            callback_on_step_end_tensor_inputs=list(callback_on_step_end_tensor_inputs), **embeds,
        )  # fmt: skip
        device = self._execution_device
        # 2. The words, for each part of the batch.
        text, negative, pooled, negative_pooled = self.encode_prompt(
            prompt=prompt, prompt_2=None, prompt_3=None, negative_prompt=negative_prompt, device=device,
            do_classifier_free_guidance=self.do_classifier_free_guidance, num_images_per_prompt=num_images_per_prompt,
            clip_skip=clip_skip, max_sequence_length=max_sequence_length, **embeds,
        )  # fmt: skip
        rows = len(text)
        prompt_embeds, pooled_prompt_embeds = text, pooled
        if self.do_classifier_free_guidance:
            prompt_embeds = torch.cat([text, negative, negative])
            pooled_prompt_embeds = torch.cat([pooled, negative_pooled, negative_pooled])
        # 3. The latents of noise, source and mask.
        channels = self.vae.config.latent_channels
        latents = self.prepare_latents(rows, channels, height, width, text.dtype, device, generator, latents)
        pictures = [image]
        if self.takes_mask:
            pictures.append(Image.new("RGB", (width, height), "white") if mask_img is None else mask_img)
        known = [self._encode(picture, height, width, rows, text.dtype) for picture in pictures]
        image_latents = torch.cat(known, 1)  # (rows, channels or 2 * channels, h, w)
        if self.do_classifier_free_guidance:
            image_latents = torch.cat([image_latents, image_latents, torch.zeros_like(image_latents)])
        # 4. The steps.
        self.scheduler.set_timesteps(num_inference_steps, device=device, **self._schedule(sigmas, height, width))
        timesteps = self.scheduler.timesteps
        self._num_timesteps = len(timesteps)
        with self.progress_bar(total=len(timesteps)) as bar:
            for i, t in enumerate(timesteps):
                if self.interrupt:
                    continue
                velocity = self._velocity(latents, image_latents, t, prompt_embeds, pooled_prompt_embeds)
                latents = self.scheduler.step(velocity, t, latents, return_dict=False)[0].to(latents.dtype)
                if callback_on_step_end is not None:
                    here = {"latents": latents, "image_latents": image_latents, "prompt_embeds": prompt_embeds}
                    here["pooled_prompt_embeds"] = pooled_prompt_embeds
                    wanted = {name: here[name] for name in callback_on_step_end_tensor_inputs}
                    here |= callback_on_step_end(self, i, t, wanted)
                    latents, image_latents = here["latents"], here["image_latents"]
                    prompt_embeds, pooled_prompt_embeds = here["prompt_embeds"], here["pooled_prompt_embeds"]
                bar.update()
        # 5. The pictures.
        images = latents if output_type == "latent" else self._decode(latents, output_type)
        self.maybe_free_model_hooks()
        return StableDiffusion3PipelineOutput(images=images) if return_dict else (images,)

    def _velocity(self, latents: Tensor, image_latents: Tensor, t: Tensor, words: Tensor, pooled: Tensor) -> Tensor:
        """The guided prediction (n, channels, h, w); under guidance all but `latents` have three parts."""
        repeated = latents.repeat(len(image_latents) // len(latents), 1, 1, 1)
        velocity: Tensor = self.transformer(
            hidden_states=torch.cat([repeated, image_latents], 1),
            timestep=t.expand(len(repeated)),
            encoder_hidden_states=words,
            pooled_projections=pooled,
            joint_attention_kwargs=self.joint_attention_kwargs,
            return_dict=False,
        )[0]
        if not self.do_classifier_free_guidance:
            return velocity
        full, source, none = velocity.chunk(3)
        return none + self.guidance_scale * (full - source) + self.image_guidance_scale * (source - none)

    def _check(self, image: Any, mask: Any) -> None:
        channels, has = self.vae.config.latent_channels, self.transformer.config.in_channels
        if image is None or (isinstance(image, list) and not image):
            raise ValueError("There is no picture to edit: give image=.")
        if has not in (2 * channels, 3 * channels):
            raise ValueError(
                f"The transformer has {has} input channels, but an instruction-edited SD3 has {2 * channels} (noise "
                f"and source) or {3 * channels} (noise, source and mask): load a checkpoint of that kind."
            )
        if self._image_guidance_scale < 1:
            raise ValueError(f"image_guidance_scale is {self._image_guidance_scale}, but must be at least 1.")
        if mask is not None and not self.takes_mask:
            raise ValueError("This checkpoint has no channels for a mask: leave mask_img out.")

    def _size(self, image: Any, height: int | None, width: int | None) -> tuple[int, int]:
        first = image[0] if isinstance(image, list) else image
        if isinstance(first, Image.Image):
            given = first.height, first.width
        elif isinstance(first, np.ndarray):  # (h, w), (h, w, channels) or (n, h, w, channels)
            given = first.shape[1:3] if first.ndim == 4 else first.shape[:2]
        else:
            given = tuple(first.shape[-2:])
        unit = self.vae_scale_factor * self.patch_size
        return height or max(unit, given[0] // unit * unit), width or max(unit, given[1] // unit * unit)

    def _schedule(self, sigmas: Sequence[float] | None, height: int, width: int) -> dict[str, Any]:
        """What the scheduler is told beside the number of steps."""
        out: dict[str, Any] = {} if sigmas is None else {"sigmas": list(sigmas)}
        config = self.scheduler.config
        if config.get("use_dynamic_shifting"):  # mu is linear in the number of image tokens
            tokens = height * width // (self.vae_scale_factor * self.patch_size) ** 2
            low, high = config["base_image_seq_len"], config["max_image_seq_len"]
            slope = (config["max_shift"] - config["base_shift"]) / (high - low)
            out["mu"] = config["base_shift"] + slope * (tokens - low)
        return out

    def _encode(self, picture: Any, height: int, width: int, rows: int, dtype: torch.dtype) -> Tensor:
        """The latents of a picture as the transformer was trained on them, without noise: (rows, channels, h, w)."""
        processor: VaeImageProcessor = self.image_processor
        pixels = processor.preprocess(picture, height=height, width=width)  # (n, channels, height, width)
        if pixels.shape[1] == 1:  # grey
            pixels = pixels.expand(-1, 3, -1, -1)
        if pixels.shape[1] != 3:
            raise ValueError(f"A picture has {pixels.shape[1]} channels: give RGB or grey, or a PIL image of any mode.")
        encoded = self.vae.encode(pixels.to(self._execution_device, self.vae.dtype))
        latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
        if rows % len(latents):
            raise ValueError(f"{len(latents)} pictures do not fit a batch of {rows}: give one, or one per prompt.")
        if self.config.normalized_latents:
            latents = (latents - self._shift) * self.vae.config.scaling_factor
        return latents.repeat_interleave(rows // len(latents), 0).to(dtype)

    def _decode(self, latents: Tensor, output_type: str) -> Any:
        latents = latents / self.vae.config.scaling_factor
        if self.config.normalized_latents:
            latents = latents + self._shift
        pixels = self.vae.decode(latents.to(self.vae.dtype), return_dict=False)[0]
        return self.image_processor.postprocess(pixels, output_type=output_type)

    @property
    def _shift(self) -> float:
        return self.vae.config.shift_factor or 0.0


def _rgb(pictures: Any) -> Any:
    """PIL images upright and as RGB, anything else as it is."""
    if isinstance(pictures, list):
        return [_rgb(picture) for picture in pictures]
    return read_image(pictures) if isinstance(pictures, Image.Image) else pictures
