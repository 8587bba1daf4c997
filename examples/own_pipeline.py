"""Repulsion on a pipeline that you load and call yourself.

    python examples/own_pipeline.py PHOTO INSTRUCTION [FOLDER OR HUB ID]

Without a third argument it takes the small model of this repository; name black-forest-labs/FLUX.1-Kontext-dev (24 GB,
behind a licence on the hub) for real use.
"""

import sys
from pathlib import Path

import torch
from diffusers import FluxKontextPipeline
from diffusers.utils import load_image

from ctxrep_edit import Repulsion, adapter_for, repelled

NANO = Path(__file__).parents[1] / "plugins/ctxrep_plugins/nano/weights/kontext-nano"
SIDE = 64  # pixels: what the small model edits at
SMALL = {"width": SIDE, "height": SIDE, "max_area": SIDE * SIDE, "_auto_resize": False, "max_sequence_length": 16}
OUT = Path("out/own")
N = 4


def main(photo: str, instruction: str, model: str | None = None) -> None:
    # 1. Your pipeline, loaded and placed as you like.
    cuda = torch.cuda.is_available()
    pipe = FluxKontextPipeline.from_pretrained(model or NANO, dtype=torch.bfloat16 if cuda else torch.float32)
    pipe.to("cuda" if cuda else "cpu")
    # 2. Your call: any of the pipeline's own arguments, one generator per picture.
    call = {
        "image": load_image(photo) if model else load_image(photo).resize((SIDE, SIDE)),
        "prompt": instruction,
        "num_images_per_prompt": N,
        "generator": [torch.Generator().manual_seed(seed) for seed in range(N)],
        "num_inference_steps": 20 if model else 12,
        "guidance_scale": 2.5 if model else 1.0,
        **({} if model else SMALL),
    }
    # 3. Inside `repelled` the N pictures push one another apart; outside it the pipeline is as it was.
    words = adapter_for(pipe).instruction(pipe, call)  # bool (tokens,): which text tokens carry the instruction
    settings = Repulsion(scope="middle", strength=0.7, steps=2, anchor=True)
    with repelled(pipe, settings, particles=N, instruction=words) as run:
        images = pipe(**call).images
    # 4. What it did: Vendi score of the contextual tokens around each block.
    for before, after in run.vendi[:3]:
        print(f"Vendi score of the contextual tokens: {before:.3f} -> {after:.3f}")
    OUT.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        image.save(OUT / f"{i + 1}.png")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    main(*sys.argv[1:4])
