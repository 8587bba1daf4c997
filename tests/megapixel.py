"""qwen-nano without the outer levels of its autoencoder, which only average pixels and show them again: they take nine
tenths of its time, and `tests/nano/test_qwen.py` holds them to that."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from ctxrep_plugins.bench.spread.methods import Method
from ctxrep_plugins.bench.tasks import Task, strictly
from ctxrep_plugins.nano import WEIGHTS
from ctxrep_plugins.nano.models.qwen_autoencoder import ZOOM, inner
from ctxrep_plugins.nano.world.judge import Judge, of_the_world
from diffusers import AutoencoderTiny
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from torch import Tensor

from ctxrep_edit import diverse_edit, to_tensor

N = 6


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


def figures(pipeline: Any, task: Task, how: Method) -> dict[str, Any]:
    """What the bench counts of a set of N by the judge alone, as its other figures look at every one of the pixels."""
    with strictly():
        edits = diverse_edit(
            task.picture, task.request.text, N, pipeline=pipeline, seed=task.seed, batch_size=N, bank="off",
            strength="auto" if how.strength is None else how.strength, repulsion=how.repulsion, preserve="off",
            progress=False,
        )  # fmt: skip
    judge = Judge(task.request.edit, task.picture, pipeline)
    images = of_the_world(torch.cat([to_tensor(image) for image in edits.images]))  # (n, 3, h, w)
    rulings = [judge(image) for image in images]
    admitted = task.request.answers
    right = [ruling.answer for ruling in rulings if ruling.right and ruling.answer in admitted]
    photo, edit, pinned = task.key
    return {
        "photo": photo,
        "edit": edit,
        "pinned": pinned,
        "distinct": len(set(right)),
        "right": len(right) / N,
        "held": sum(ruling.answer in admitted for ruling in rulings) / N,
    }
