"""Trains an embedded model from a folder of photographs: `python -m ctxrep_plugins.nano.training --help`.

Every stage resumes from its checkpoint, and the same seed gives the same weights on the same machine: each step draws
from generators seeded by its own number.
"""

from __future__ import annotations

import functools
from pathlib import Path

import click
import torch
from ctxrep_plugins.nano import WEIGHTS, models
from ctxrep_plugins.nano.models import qwen_autoencoder
from ctxrep_plugins.nano.models.autoencoder import build
from ctxrep_plugins.nano.models.kontext import Kontext
from ctxrep_plugins.nano.models.model import save
from ctxrep_plugins.nano.models.qwen import Qwen
from ctxrep_plugins.nano.training import autoencoder, warm
from ctxrep_plugins.nano.training.distilled import Ways, levels, step_loss
from ctxrep_plugins.nano.training.pairs import Pairs
from ctxrep_plugins.nano.training.qwen_decoder import train_decoder
from ctxrep_plugins.nano.training.transformer import BATCH, flow_loss, train
from ctxrep_plugins.nano.world import photos
from diffusers import AutoencoderTiny

WORD_STEPS = 250  # of qwen-nano's text encoder alone


@click.command(context_settings={"show_default": True})
@click.argument("name", type=click.Choice(["kontext-nano", "sd3-nano", "sd3-nano-turbo", "qwen-nano"]))
@click.option("--photos", "folder", type=click.Path(exists=True, path_type=Path), required=True, help="Photographs.")
@click.option("--work", type=click.Path(path_type=Path), default=Path("work"), help="Folder for checkpoints and pairs.")
@click.option(
    "--start",
    type=click.Path(exists=True, path_type=Path),
    help="Pipeline folder of the same NAME, or of the teacher, to train on from.",
)
@click.option(
    "--autoencoder", "taken", type=click.Path(exists=True, path_type=Path),
    help="Pipeline folder whose autoencoder is taken over instead of training one.",
)  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), default=Path(), help="The pipeline goes into a folder in here.")
@click.option("--decoder-steps", default=3650, help="Steps of the autoencoder's decoder.")
@click.option("--steps", default=4000, help="Steps of the transformer and the text encoders.")
@click.option("--rates", default=1.0, help="Share of the peak learning rates; less than 1 suits --start.")
@click.option("--pairs", default=48_000, help="Training pairs made beforehand.")
@click.option("--seed", default=0)
@click.option("--device", default="cpu", help="Where the steps are computed; pairs of pictures are drawn on the CPU.")
@click.option("--batch", default=BATCH, help="Pairs a step.")
@click.option("--float32", is_flag=True, help="No bfloat16: faster on a CPU whose matrix units do not know it.")
@click.option("--adamw", is_flag=True, help="No Muon, which works in bfloat16 even with --float32.")
@click.option(
    "--teacher", type=click.Path(exists=True, path_type=Path),
    help="Folder of a kontext-nano to follow; qwen-nano takes over its autoencoder and, without --start, its weights.",
)  # fmt: skip
def main(
    name: str, folder: Path, work: Path, start: Path | None, taken: Path | None, out: Path, decoder_steps: int,
    steps: int, rates: float, pairs: int, seed: int, device: str, batch: int, float32: bool, adamw: bool,
    teacher: Path | None,
) -> None:  # fmt: skip
    """Train the model NAME from a folder of photographs; started again, it goes on where it stopped."""
    work.mkdir(parents=True, exist_ok=True)
    pictures = photos.read_folder(folder)
    torch.manual_seed(seed)
    model = models.untrained(name).to(device)
    if model.base:
        vae = model.load(start or WEIGHTS / model.base).to(device)
        ways = Ways(pictures, model, vae, levels(model), pairs, work, seed)
        model.requires_grad_(False)
        model.transformer.requires_grad_(True)
        train(model, ways, work / f"{name}.pt", steps, seed, not float32, rates, step_loss, not adamw, batch)
        save(model, vae, out / name)
        print(f"The transformer is in {out / name}")
        return
    follow = None
    loaded = None if start is None else model.load(start)
    if teacher is not None:
        follow = Kontext().to(device)
        vae = follow.load(teacher)
        follow.eval().requires_grad_(False)
    elif isinstance(loaded, AutoencoderTiny):
        vae = loaded
    elif taken is not None:
        vae = AutoencoderTiny.from_pretrained(taken, subfolder="vae")
    else:
        vae = build()
        autoencoder.fit_encoder(vae, pictures, seed)
        vae.to(device)
        autoencoder.train_decoder(vae, pictures, work / "decoder.pt", decoder_steps, seed)
    vae.to(device)
    model.see(vae)
    made = Pairs(pictures, vae, pairs, work, seed, model.buckets)
    begun = (work / f"{name}.pt").exists()
    if isinstance(model, Qwen) and follow is not None and start is None and not begun:
        warm.take_over(model, follow)
        warm.learn_words(model, follow, made.buckets[0].source, WORD_STEPS, seed)
    aim = functools.partial(flow_loss, teacher=follow)
    train(model, made, work / f"{name}.pt", steps, seed, not float32, rates, aim, not adamw, batch)
    shown = vae
    if isinstance(model, Qwen):
        shown = qwen_autoencoder.build(vae).to(device)
        train_decoder(shown, vae, made, work / f"{name}-decoder.pt", decoder_steps, seed)
    save(model, shown, out / name)
    print(f"The pipeline is in {out / name}")
