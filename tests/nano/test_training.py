"""How the embedded models are trained: what each step is shown, and that it resumes to the same weights."""

from pathlib import Path

import ctxrep_plugins.nano as nano
import numpy as np
import pytest
import torch
from ctxrep_plugins.nano import models, text
from ctxrep_plugins.nano.models.autoencoder import build
from ctxrep_plugins.nano.training import autoencoder
from ctxrep_plugins.nano.training.pairs import Pairs
from ctxrep_plugins.nano.training.transformer import SETTLED, flow_loss
from ctxrep_plugins.nano.world import photos
from PIL import Image

from ctxrep_edit import load_pipeline, to_tensor

FOLDER = nano.WEIGHTS / "kontext-nano"


@pytest.mark.parametrize("name", list(nano.MODELS))
def test_training_starts_from_the_weights_of_a_folder(name: str):
    torch.manual_seed(0)
    model = models.untrained(name)
    vae = model.load(nano.WEIGHTS / name)
    trained = load_pipeline(name)
    for ours, theirs in ((model.transformer, trained.transformer), (model.text_encoder, trained.text_encoder)):
        for key, value in theirs.state_dict().items():
            assert torch.equal(ours.state_dict()[key], value), key
    assert dict(vae.config) == dict(trained.vae.config)


def test_training_resumes_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pictures = [np.random.default_rng(0).integers(0, 256, (128, 160, 3), dtype=np.uint8)]
    monkeypatch.setattr(autoencoder, "EVERY", 1)
    drawn = autoencoder.batch

    def train(checkpoint: Path) -> torch.Tensor:
        torch.manual_seed(0)
        vae = build()
        autoencoder.fit_encoder(vae, pictures, 0)
        autoencoder.train_decoder(vae, pictures, checkpoint, 4, 0)
        return torch.cat([p.flatten() for p in vae.decoder.parameters()])

    whole = train(tmp_path / "whole.pt")

    left = iter(range(64 + 2))  # 64 batches fit the encoder, then two steps

    def interrupted(pictures, rng):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return drawn(pictures, rng)

    monkeypatch.setattr(autoencoder, "batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "halves.pt")
    monkeypatch.setattr(autoencoder, "batch", drawn)
    assert torch.equal(train(tmp_path / "halves.pt"), whole)


def test_answers_drawn_evenly_are_trained_on_with_little_noise_only(tmp_path: Path):
    model = models.untrained("kontext-nano")
    vae = model.load(FOLDER)
    assert torch.equal(next(model.transformer.parameters()), next(load_pipeline(FOLDER).transformer.parameters()))
    pictures = [np.random.default_rng(0).integers(0, 256, (128, 160, 3), dtype=np.uint8)]
    batch = Pairs(pictures, vae, 1500, tmp_path, 0).batch(40, np.random.default_rng(0))
    assert batch.even.sum() == 16
    asked: list[torch.Tensor] = []

    def velocity(noisy, source, sigma, phrase):
        asked.append(sigma)
        return torch.zeros_like(noisy)

    model.velocity = velocity
    value = flow_loss(model, batch, torch.Generator().manual_seed(0))
    assert value.isfinite()
    assert asked[0][batch.even].max() <= SETTLED < asked[0][~batch.even].max()


def test_training_crops_are_taken_where_there_is_something_to_see():
    rng = np.random.default_rng(0)
    picture = np.full((600, 600, 3), 128, np.uint8)
    picture[:300, :300] = rng.integers(0, 256, (300, 300, 3), dtype=np.uint8)
    busy, usual = (
        np.mean([crop([picture], (64, 64), rng).std() > 0.02 for _ in range(60)])
        for crop in (photos.busy_crop, photos.crop)
    )
    assert busy > usual + 0.2


@pytest.mark.parametrize("name", ["kontext-nano", "sd3-nano"])
def test_the_pipeline_asks_the_transformer_what_training_asks_it(name: str, crop):
    """One step from noise, through the pipeline and as in training: the same words, timestep and latents."""
    torch.manual_seed(0)
    model = models.untrained(name).eval().requires_grad_(False)
    vae = build().eval()
    vae.register_to_config(scaling_factor=2.0, shift_factor=0.0)
    calls: list[dict] = []
    handle = model.transformer.register_forward_pre_hook(
        lambda module, args, call: calls.append(call), with_kwargs=True
    )
    phrase = "make it night"
    picture = Image.fromarray((crop * 255).round().astype(np.uint8))
    generator = torch.Generator().manual_seed(1)
    pipe = model.pipeline(vae)
    pipe.set_progress_bar_config(disable=True)
    height, width = crop.shape[:2]
    extra = {"max_area": width * height, "_auto_resize": False} if name == "kontext-nano" else {}
    options = {"num_inference_steps": 1, "generator": generator, "output_type": "latent", **model.call, **extra}
    pipe(prompt=phrase, image=picture, height=height, width=width, **options)
    source = vae.encode(to_tensor(picture) * 2 - 1).latents * 2.0
    noise = torch.randn(source.shape, generator=torch.Generator().manual_seed(1))
    model.velocity(noise, source, torch.ones(1), torch.tensor([text.corpus().index(phrase)]))
    handle.remove()
    ours, theirs = calls
    for key in ("hidden_states", "timestep", "encoder_hidden_states", "pooled_projections"):
        assert torch.allclose(ours[key].float(), theirs[key].float(), atol=1e-4), key
    for key in {"img_ids", "txt_ids"} & set(ours):
        assert torch.equal(ours[key], theirs[key]), key
