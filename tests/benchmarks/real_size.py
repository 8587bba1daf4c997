"""Repulsion at the real size of FLUX.1 Kontext: python tests/benchmarks/real_size.py --device cuda

The transformer of 11.9 billion parameters and the autoencoder as published, with random weights in bfloat16 (so that
nothing has to be fetched, and pictures are noise), and text encoders of one layer; 1024 x 1024 pixels. Printed are
seconds, also over those of the plain set of as many, the peak of the device's memory, and what the bank on the host
holds. Checks are off. -n and --batch may be repeated, a batch of 0 is one of all; --ways takes some of the rows alone.
--small is for trying the script on a CPU.
"""

from __future__ import annotations

import argparse
import gc
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from ctxrep_plugins.nano import text
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxKontextPipeline, FluxTransformer2DModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from ctxrep_edit import Uncalibrated, default_settings, diverse_edit

SMALL = {"num_layers": 2, "num_single_layers": 2, "attention_head_dim": 16, "num_attention_heads": 2}
GIBIBYTE = 2**30
WAYS = {
    "plain": {},
    "repelled": {"oversample": 1},
    "of-twice": {"oversample": 2},
    "M-50": {"oversample": 1, "iterations": 50},
}


def kontext(device: str, small: bool) -> FluxKontextPipeline:
    clip, t5 = text.clip_tokenizer(), text.t5_tokenizer()
    widths = (8,) * 4 if small else (128, 256, 512, 512)
    ends = {name: getattr(clip, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        shape = {**SMALL, "axes_dims_rope": (4, 6, 6)} if small else {}
        transformer = FluxTransformer2DModel(guidance_embeds=True, **shape)
        first = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(clip),
                hidden_size=768,
                intermediate_size=64,
                num_hidden_layers=1,
                num_attention_heads=12,
                **ends,
            )
        )
        second = T5EncoderModel(T5Config(vocab_size=len(t5), d_model=4096, d_kv=64, d_ff=64, num_layers=1, num_heads=4))
        vae = AutoencoderKL(
            block_out_channels=widths, down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=2, norm_num_groups=4 if small else 32,
            latent_channels=16, shift_factor=0.1159, scaling_factor=0.3611, use_quant_conv=False,
            use_post_quant_conv=False,
        )  # fmt: skip
    torch.set_default_dtype(torch.float32)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    pipeline = FluxKontextPipeline(scheduler, vae, first, clip, second, t5, transformer)
    return pipeline.to(device, torch.bfloat16)


def measured(pipeline: Any, n: int, batch: int, steps: int, **options: Any) -> tuple[float, float, float]:
    """Seconds of sampling, gibibytes of the device at the peak, and those of the bank."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), dtype=np.uint8))
    on_cuda = pipeline.device.type == "cuda"
    gc.collect()
    if on_cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    edits = diverse_edit(
        picture, "make it autumn", n, pipeline=pipeline, seed=0, steps=steps, batch_size=batch, preserve="off",
        bank="memory" if batch < n else "off", progress=False, **options,
    )  # fmt: skip
    peak = torch.cuda.max_memory_allocated() if on_cuda else 0
    return edits.seconds, peak / GIBIBYTE, sum(edit.trace.nbytes for edit in edits if edit.trace) / GIBIBYTE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("-n", type=int, action="append", help="edits [6]")
    parser.add_argument("--batch", type=int, action="append", help="how many at once [0 2]")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=[*WAYS])
    parser.add_argument("--small", action="store_true")
    asked = parser.parse_args()
    warnings.simplefilter("ignore", Uncalibrated)
    pipeline = kontext(asked.device, asked.small)
    own = default_settings(pipeline)
    measured(pipeline, 1, 1, 2, repulsion=replace(own, oversample=1))  # what the first call alone takes
    print("| n | at once | | seconds | / plain | peak, GiB | bank, GiB |\n|---|---|---|---|---|---|---|")
    for n, batch in [(n, batch or n) for n in asked.n or [6] for batch in asked.batch or [0, 2]]:
        least = None
        for way in asked.ways:
            options = {"repulsion": replace(own, **WAYS[way])} if WAYS[way] else {"strength": 0}
            seconds, peak, bank = measured(pipeline, n, batch, asked.steps, **options)
            least = least or seconds
            row = f"{seconds:.1f} | {seconds / least:.2f} | {peak:.1f} | {bank:.1f}"
            print(f"| {n} | {batch} | {way} | {row} |", flush=True)


if __name__ == "__main__":
    main()
