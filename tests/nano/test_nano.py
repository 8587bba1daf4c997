"""The embedded model and its world: exact edits, a strict judge, weights that load without us and keep their bars."""

import warnings
from pathlib import Path

import ctxrep_plugins.nano as nano
import numpy as np
import pytest
import torch
from ctxrep_adapters.sd3_instruct import StableDiffusion3InstructPix2PixPipeline
from ctxrep_plugins.bench import spread
from ctxrep_plugins.nano import text, training, world
from ctxrep_plugins.nano.model import SETTLED, loss
from ctxrep_plugins.nano.training import autoencoder
from ctxrep_plugins.nano.training.pairs import Pairs
from ctxrep_plugins.nano.world import photos
from ctxrep_plugins.nano.world.judge import Judge
from diffusers import FluxKontextPipeline
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ctxrep_edit import OutsideItsWorld, diverse_edit, load_pipeline
from ctxrep_edit.imaging import to_tensor
from ctxrep_edit.sampling.run import round_trip

FOLDER = nano.WEIGHTS / "kontext-nano"
PIPELINES = {"kontext-nano": FluxKontextPipeline, "sd3-nano": StableDiffusion3InstructPix2PixPipeline}


@pytest.fixture(scope="module")
def pipeline():
    return load_pipeline("kontext-nano")


@pytest.fixture(scope="module")
def crop() -> np.ndarray:
    picture = photos.crop(photos.held_out()[:1], (64, 64), np.random.default_rng(3))
    return (np.round(picture * 255) / 255).astype(np.float32)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31), st.sampled_from(world.EDITS), st.sampled_from(photos.BUCKETS))
def test_every_answer_is_a_picture_that_differs_from_the_source(seed, edit, bucket):
    rng = np.random.default_rng(seed)
    picture = rng.random((*bucket, 3), dtype=np.float32) * 0.6 + 0.2
    for answer in edit.answers:
        out = world.render(edit, picture, answer)
        assert out.shape == picture.shape
        assert out.dtype == np.float32
        assert 0 <= out.min() <= out.max() <= 1
        changed = np.abs(out - picture).max(-1) > 1 / 255
        assert changed.mean() > 0.04
        assert changed.mean() < 0.75 or not edit.local


def test_answers_respect_the_pinned_words_and_the_typical_one_dominates():
    sticker = world.EDITS[0]
    request = world.understand("Please, add a cat sticker at the top right!")
    assert request is not None
    assert request.answers == [("cat", "top right")]
    assert [a[0] for a in sticker.admitted({"kind": "frog"})] == ["frog"] * 4
    rng = np.random.default_rng(0)
    drawn = [sticker.draw({}, rng) for _ in range(2000)]
    assert drawn.count(sticker.answers[0]) / 2000 == pytest.approx(world.TYPICAL, abs=0.03)
    assert set(drawn) == set(sticker.answers)
    evenly = [sticker.draw({}, rng, even=True) for _ in range(3200)]
    assert max(evenly.count(answer) for answer in sticker.answers) < 2 * 3200 / len(sticker.answers)


def test_every_phrase_is_understood_and_has_tokens_of_its_own():
    phrases = text.corpus()
    assert len(set(phrases)) == len(phrases)
    for phrase in phrases:
        assert world.understand(phrase).text == phrase
    for tokenizer in (text.clip_tokenizer(), text.t5_tokenizer()):
        ids = text.token_ids(tokenizer, phrases)
        assert len({tuple(row.tolist()) for row in ids}) == len(phrases)


def test_the_judge_accepts_every_right_answer(pipeline, crop):
    for edit in world.EDITS:
        judge = Judge(edit, crop, pipeline)
        for answer in edit.answers:
            target = torch.from_numpy(world.render(edit, crop, answer)).permute(2, 0, 1)
            ruling = judge(round_trip(pipeline, target[None])[0])
            assert (ruling.answer, ruling.right) == (answer, True)


def _spoiled(picture: torch.Tensor, how: str) -> torch.Tensor:
    out = picture.clone()
    match how:
        case "half a sticker":
            out[:, 40:50, 40:60] = 0.5
        case "second object":
            out[:, 4:20, 4:20] = torch.tensor([0.9, 0.1, 0.1])[:, None, None]
        case "shift":
            out = torch.roll(out, 3, 2)
        case "colour cast":
            out = (out * torch.tensor([1.15, 1.0, 0.8])[:, None, None]).clamp(0, 1)
        case "noise":
            out = (out + 0.12 * torch.randn(out.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    return out


@pytest.mark.parametrize("how", ["half a sticker", "second object", "shift", "colour cast", "noise", "nothing done"])
def test_the_judge_refuses_what_is_not_whole_or_moved_the_rest(pipeline, crop, how):
    edit = world.EDITS[0]
    judge = Judge(edit, crop, pipeline)
    answer = ("football", "bottom right")
    done = crop if how == "nothing done" else world.render(edit, crop, answer)
    picture = torch.from_numpy(np.ascontiguousarray(done)).permute(2, 0, 1)
    assert not judge(_spoiled(picture, how)).right


ENCODERS = {"kontext-nano": ["CLIPTextModel", "T5EncoderModel"], "sd3-nano": ["CLIPTextModelWithProjection"] * 2}


@pytest.mark.parametrize("name", list(nano.MODELS))
def test_weights_load_with_their_pipeline_alone_and_fit_the_wheel(name: str):
    folder = nano.WEIGHTS / name
    plain = PIPELINES[name].from_pretrained(folder)
    assert [type(e).__name__ for e in (plain.text_encoder, plain.text_encoder_2)] == ENCODERS[name]
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    assert size < 25_000_000
    assert not list(folder.rglob("*.bin"))


@pytest.mark.parametrize("name", list(nano.MODELS))
def test_training_starts_from_the_weights_of_a_folder(name: str):
    torch.manual_seed(0)
    model = training._untrained(name)
    vae = model.load(nano.WEIGHTS / name)
    trained = load_pipeline(name)
    for ours, theirs in ((model.transformer, trained.transformer), (model.text_encoder, trained.text_encoder)):
        for key, value in theirs.state_dict().items():
            assert torch.equal(ours.state_dict()[key], value), key
    assert vae.config.scaling_factor == trained.vae.config.scaling_factor


def test_the_autoencoder_keeps_photographs_it_never_saw(pipeline):
    assert float(autoencoder.decibels(pipeline.vae, photos.held_out(), 200).mean()) >= 32


@pytest.mark.parametrize("name", list(nano.MODELS))
def test_plain_edits_are_right_and_repulsion_spreads_them(name: str):
    pipeline = load_pipeline(name)
    work = [task for task in spread.tasks(photos.held_out(), 2, seed=11) if not task.request.pins]
    trials = [
        [spread.run(pipeline, task, spread.method(name, pipeline, {}), 6) for task in work]
        for name in ("plain", "contextual")
    ]
    plain, ours = (spread.summary(made, {trial.key: trial for trial in trials[0]}) for made in trials)
    assert plain["right"][0] >= 0.9
    assert ours["right"][0] >= 0.9 * plain["right"][0]
    assert ours["distinct"][0] > plain["distinct"][0]
    assert ours["evaluations"] == (1, 1, 1)


def test_an_instruction_outside_the_world_is_warned_of(crop):
    with pytest.warns(OutsideItsWorld, match=r"was not taught 'make it autumn'.*FLUX\.1-Kontext-dev"):
        diverse_edit(crop, "make it autumn", 1, seed=0, progress=False, preserve="off")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        diverse_edit(crop, "Make it night.", 1, seed=0, progress=False, preserve="off")


def test_training_resumes_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pictures = [np.random.default_rng(0).integers(0, 256, (128, 160, 3), dtype=np.uint8)]
    monkeypatch.setattr(autoencoder, "EVERY", 1)
    drawn = autoencoder.batch

    def train(checkpoint: Path) -> torch.Tensor:
        torch.manual_seed(0)
        vae = autoencoder.build()
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
    model = training._untrained("kontext-nano")
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
    value = loss(model, batch, torch.Generator().manual_seed(0))
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
    model = training._untrained(name).eval().requires_grad_(False)
    vae = autoencoder.build().eval()
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
