"""The embedded models as they are shipped: weights that load without us and keep their bars."""

import json
import warnings

import ctxrep_plugins.nano as nano
import megapixel
import numpy as np
import pytest
import torch
from ctxrep_adapters.sd3_instruct import StableDiffusion3InstructPix2PixPipeline
from ctxrep_plugins.bench.spread.methods import method
from ctxrep_plugins.bench.spread.summary import summary
from ctxrep_plugins.bench.spread.trials import run
from ctxrep_plugins.bench.tasks import tasks
from ctxrep_plugins.nano.models import untrained
from ctxrep_plugins.nano.models.qwen_autoencoder import ZOOM
from ctxrep_plugins.nano.training import autoencoder
from ctxrep_plugins.nano.world import photos
from ctxrep_plugins.nano.world.judge import of_the_world
from diffusers import FluxKontextPipeline, QwenImageEditPipeline
from torch import nn

from ctxrep_edit import OutsideItsWorld, diverse_edit, load_pipeline, round_trip

PIPELINES = {
    "kontext-nano": FluxKontextPipeline,
    "sd3-nano": StableDiffusion3InstructPix2PixPipeline,
    "qwen-nano": QwenImageEditPipeline,
}
METHODS = ("plain", "contextual*1", "contextual")
ENCODERS = {
    "kontext-nano": ["CLIPTextModel", "T5EncoderModel"],
    "sd3-nano": ["CLIPTextModelWithProjection", "CLIPTextModelWithProjection", "T5EncoderModel"],
    "qwen-nano": ["Qwen2_5_VLForConditionalGeneration"],
}
POOL = {"kontext-nano": 92 / 72, "sd3-nano": 92 / 72, "sd3-nano-turbo": 3 / 2}
"""Evaluations of a set with its default pool, to those of a plain one."""
ALONE = {"kontext-nano": 62 / 72, "sd3-nano": 62 / 72}
"""The same without a pool, where answers hold."""


def test_the_wheel_stays_small():
    # four models of at most 25 MB; package indexes take 100 MB, and half precision hardly gets smaller in a wheel
    assert sum(f.stat().st_size for f in nano.WEIGHTS.rglob("*") if f.is_file()) < 82_000_000


@pytest.mark.parametrize("name", list(PIPELINES))
def test_weights_load_with_their_pipeline_alone(name: str):
    folder = nano.WEIGHTS / name
    plain = PIPELINES[name].from_pretrained(folder)
    parts = {name: part for name, part in plain.components.items() if isinstance(part, nn.Module)}
    encoders = [type(parts[key]).__name__ for key in sorted(parts) if key.startswith("text_encoder")]
    assert encoders == ENCODERS[name]
    assert {part.dtype for part in parts.values()} == {torch.float32}  # in whatever precision they are stored
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    assert size < 25_000_000
    assert not list(folder.rglob("*.bin"))


@pytest.mark.parametrize("name", nano.MODELS)
def test_training_would_state_the_settings_that_ship(name: str):
    stated = json.loads((nano.WEIGHTS / name / "ctxrep.json").read_text("utf-8"))
    assert stated["repulsion"] == untrained(name).repulsion


def test_the_autoencoder_keeps_photographs_it_never_saw(pipeline):
    assert float(autoencoder.decibels(pipeline.vae, photos.held_out(), 200).mean()) >= 32


def test_the_autoencoder_of_qwen_nano_shows_what_the_shared_one_shows(pipeline):
    own = load_pipeline(nano.WEIGHTS / "qwen-nano", device="cpu")  # not the one that others are given
    crops = [photos.crop(photos.held_out(), (64, 64), np.random.default_rng(i)) for i in range(10)]
    exact = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)  # (10, 3, 64, 64)
    whole = of_the_world(round_trip(own, large(exact[:1])))
    inner = of_the_world(round_trip(megapixel.quick(own), large(exact)))
    assert psnr(whole, inner[:1]).min() >= 45
    assert psnr(inner, round_trip(pipeline, exact)).mean() >= 34
    assert psnr(inner, exact).mean() >= 31


@pytest.mark.parametrize("name", [name for name in nano.MODELS if name != "qwen-nano"])
def test_plain_edits_are_right_and_repulsion_spreads_them(name: str):
    pipeline = load_pipeline(name)
    crops = 5 if name == "sd3-nano-turbo" else 2  # of its sets more are counted wrongly, so that two know too little
    work = [task for task in tasks(photos.held_out(), crops, seed=11) if not task.request.pins]
    trials = [[run(pipeline, task, method(name, pipeline, {}), 6) for task in work] for name in METHODS]
    plain, ours, pool = (summary(made, {trial.key: trial for trial in trials[0]}) for made in trials)
    assert plain["right"][0] >= 0.9
    for repelled in (ours, pool):
        assert repelled["right"][0] >= 0.85 * plain["right"][0]
    assert pool["distinct"][0] > ours["distinct"][0] > 1.5 * plain["distinct"][0]
    assert ours["evaluations"] == pytest.approx((ALONE.get(name, 1),) * 3)
    assert pool["evaluations"] == pytest.approx((POOL[name],) * 3)
    assert agreed(trials) >= 0.8  # how many different edits there are, by `EditSet.distinct`


def test_the_same_of_qwen_nano():
    """On three sets, as one takes it several seconds."""
    pipeline = megapixel.quick(load_pipeline(nano.WEIGHTS / "qwen-nano", device="cpu"))
    work = [task for task in tasks(photos.held_out(), 1, seed=11) if not task.request.pins][::2]
    plain, ours = (
        [megapixel.figures(pipeline, task, method(name, pipeline, {})) for task in work]
        for name in ("plain", "contextual")
    )
    assert np.mean([row["right"] for row in plain]) >= 0.9
    assert np.mean([row["right"] for row in ours]) >= 0.85
    assert sum(row["distinct"] for row in ours) > 1.5 * sum(row["distinct"] for row in plain)


def large(pictures):
    """(n, 3, h, w), each pixel as the square that qwen-nano takes for one."""
    return pictures.repeat_interleave(ZOOM, 2).repeat_interleave(ZOOM, 3)


def psnr(one, other):
    """Of pictures (n, 3, h, w) in [0, 1]: (n,) in dB."""
    return -10 * (one - other).square().mean((1, 2, 3)).log10()


def agreed(trials):
    """Share of sets whose different edits were counted rightly."""
    return np.mean([trial.counted == trial.different for made in trials for trial in made])


def test_an_instruction_outside_the_world_is_warned_of(crop):
    with pytest.warns(OutsideItsWorld, match=r"was not taught 'make it autumn'.*FLUX\.1-Kontext-dev"):
        diverse_edit(crop, "make it autumn", 1, seed=0, progress=False, preserve="off")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        diverse_edit(crop, "Make it night.", 1, seed=0, progress=False, preserve="off")
