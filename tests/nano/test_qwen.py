"""qwen-nano before it is trained: the pipeline's class, its sizes, its autoencoder, and what training asks of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ctxrep_plugins.nano import WEIGHTS, models, text, vision
from ctxrep_plugins.nano.models import qwen_autoencoder
from ctxrep_plugins.nano.models.kontext import Kontext
from ctxrep_plugins.nano.models.model import save
from ctxrep_plugins.nano.models.qwen import Qwen
from ctxrep_plugins.nano.training import qwen_decoder, warm
from ctxrep_plugins.nano.training.pairs import Batch
from ctxrep_plugins.nano.training.transformer import flow_loss
from ctxrep_plugins.nano.world import EDITS, photos, render
from ctxrep_plugins.nano.world.judge import Judge, of_the_world
from diffusers import AutoencoderTiny, QwenImageEditPipeline
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit
from PIL import Image
from transformers import Qwen2_5_VLForConditionalGeneration

from ctxrep_edit import diverse_edit, to_tensor

KONTEXT = WEIGHTS / "kontext-nano"
PHRASE = "make it night"


@pytest.fixture(scope="module")
def tiny() -> AutoencoderTiny:
    return AutoencoderTiny.from_pretrained(KONTEXT, subfolder="vae").requires_grad_(False)


@pytest.fixture(scope="module")
def vae(tiny: AutoencoderTiny):
    torch.manual_seed(0)
    return qwen_autoencoder.build(tiny).requires_grad_(False)


@pytest.fixture(scope="module")
def model(tiny: AutoencoderTiny) -> Qwen:
    torch.manual_seed(0)
    made = models.untrained("qwen-nano").eval().requires_grad_(False)
    made.see(tiny)
    return made


@pytest.fixture(scope="module")
def teacher() -> Kontext:
    made = Kontext()
    made.load(KONTEXT)
    return made.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def seen() -> torch.Tensor:
    """A crop that fits none of the squares: (1, 3, 56, 72) in [-1, 1]."""
    picture = photos.crop(photos.held_out()[:1], (56, 72), np.random.default_rng(3))
    return torch.from_numpy(picture).permute(2, 0, 1)[None] * 2 - 1


def large(picture: torch.Tensor) -> torch.Tensor:
    zoom = qwen_autoencoder.ZOOM
    return picture.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)


def test_its_folder_is_the_pipelines_own_and_edits_at_its_size(model, vae, tmp_path: Path, monkeypatch) -> None:
    save(model, vae, tmp_path)
    assert sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file()) < 25_000_000
    assert isinstance(QwenImageEditPipeline.from_pretrained(tmp_path).text_encoder, Qwen2_5_VLForConditionalGeneration)
    said: list[str] = []
    monkeypatch.setattr(pipeline_qwenimage_edit.logger, "warning", lambda message, *_: said.append(message))
    picture = Image.fromarray(photos.held_out()[0]).resize((900, 600))  # a megapixel of it would not fit
    edits = diverse_edit(picture, PHRASE, 1, model=tmp_path, steps=1, seed=0, progress=False, preserve="off")
    assert edits.recipe["size"] == [1152, 896]
    assert edits.images[0].size == (1244, 830)  # as many pixels in the aspect of the picture
    assert said == []  # such as that a negative prompt has no effect


def test_the_encoder_sees_what_the_shared_autoencoder_sees(vae, tiny, seen) -> None:
    latents = vae.encode(large(seen).unsqueeze(2)).latent_dist
    assert torch.allclose(latents.mode()[:, :, 0], tiny.encode(seen).latents, atol=1e-4)
    assert latents.std.max() < 1e-5
    shown = vae.decode(latents.mode()).sample[:, :, 0]
    small = of_the_world(shown)
    assert torch.allclose(large(small), shown, atol=1e-5)
    inner = qwen_autoencoder.inner(vae, latents.mode()[:, :, 0])
    assert torch.allclose(small, inner.clamp(-1, 1), atol=5e-3)


def test_the_decoder_learns_to_show_what_the_shared_one_shows(tiny, seen, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(qwen_decoder, "BATCH", 2)
    monkeypatch.setattr(qwen_decoder, "EVERY", 1)
    latents = tiny.encode(seen).latents[..., :8, :8]
    many = (latents * tiny.config.scaling_factor).expand(2, -1, -1, -1)

    class Always:
        left = 10**6

        def batch(self, size, rng) -> Batch:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return Batch(many, many, torch.zeros(2), torch.zeros(2, dtype=torch.bool))

    def apart(made) -> float:
        with torch.no_grad():
            shown = qwen_autoencoder.inner(made, latents)
        return float((shown - tiny.decode(latents).sample).square().mean())

    def train(file: str, pairs: Always) -> tuple[float, torch.Tensor]:
        torch.manual_seed(0)
        made = qwen_autoencoder.build(tiny)
        before = {name: part.clone() for name, part in made.state_dict().items()}
        error = apart(made)
        qwen_decoder.train_decoder(made, tiny, pairs, tmp_path / file, 8, 0)
        assert all(torch.equal(before[name], x) for name, x in made.state_dict().items() if name.startswith("encoder"))
        return apart(made) / error, torch.cat([p.flatten() for p in qwen_autoencoder.learned(made)])

    better, whole = train("whole.pt", Always())
    assert better < 0.5
    halting = Always()
    halting.left = 3
    with pytest.raises(KeyboardInterrupt):
        train("halves.pt", halting)
    assert torch.equal(train("halves.pt", Always())[1], whole)


def test_the_pipeline_asks_the_transformer_what_training_asks_it(model, vae, tiny, seen) -> None:
    """One step from noise, through the pipeline and as in training: the same words, timestep and latents."""
    calls: list[dict] = []
    handle = model.transformer.register_forward_pre_hook(lambda _, args, call: calls.append(call), with_kwargs=True)
    pipe = model.pipeline(vae)
    pipe.set_progress_bar_config(disable=True)
    picture = Image.fromarray(((large(seen)[0].permute(1, 2, 0) + 1) * 127.5).round().byte().numpy())
    generator = torch.Generator().manual_seed(1)
    options = {"num_inference_steps": 1, "generator": generator, "output_type": "latent", **model.call}
    told = pipe(prompt=PHRASE, image=picture, **options).images
    source = tiny.encode(of_the_world(to_tensor(picture)) * 2 - 1).latents * tiny.config.scaling_factor
    h, w = source.shape[2:]
    noise = torch.randn((1, 1, 16, h, w), generator=torch.Generator().manual_seed(1))[:, 0]
    phrase = torch.tensor([text.corpus().index(PHRASE)])
    velocity = model.velocity(noise, source, torch.ones(1), phrase)
    looked = pipe.processor(text=[vision.TEMPLATE.format(PHRASE)], images=[picture], return_tensors="pt")
    high, wide = (int(side) // vision.MERGED for side in looked["image_grid_thw"][0, 1:])
    patches = looked["pixel_values"].reshape(high, wide, 2, 2, 3, 2, vision.PATCH, vision.PATCH)[:, :, :, :, :, 0]
    exact = patches.permute(4, 0, 2, 5, 1, 3, 6).reshape(1, 3, high * 16, wide * 16)
    ours, _ = model.words(exact, phrase)
    handle.remove()
    theirs, asked = calls[0], calls[1]
    assert torch.allclose(asked["hidden_states"], theirs["hidden_states"], atol=1e-3)
    assert torch.equal(asked["timestep"], theirs["timestep"])
    assert asked["img_shapes"] == theirs["img_shapes"]
    real = asked["encoder_hidden_states_mask"][0].bool()
    words = theirs["encoder_hidden_states"]
    near = (asked["encoder_hidden_states"][:, real] - words).abs().mean()
    assert near < 0.03  # it sees what the latents hold
    assert torch.allclose(ours[:, real], words, atol=1e-4)  # and here the picture itself
    stepped = noise - velocity  # from noise alone to none
    made = QwenImageEditPipeline._unpack_latents(told, 896, 1152, 64)[:, :, 0]
    assert torch.allclose(stepped, made, atol=1e-2)


def test_padding_changes_no_words(model, tiny, seen) -> None:
    looks = model.looks(tiny.encode(seen).latents * tiny.config.scaling_factor)
    short, long = (text.corpus().index(phrase) for phrase in ("tint it", "add a cat sticker at the top right"))
    alone, real = model.words(looks, torch.tensor([short]))
    both, _ = model.words(looks.expand(2, -1, -1, -1), torch.tensor([short, long]))
    kept = real[0].bool()
    assert 0 < kept.sum() < len(kept)
    assert torch.allclose(alone[:, kept], both[:1, kept], atol=1e-5)


def test_the_template_takes_as_many_tokens_as_the_pipeline_drops() -> None:
    words = vision.tokenizer()
    ids = words([vision.TEMPLATE.format(phrase) for phrase in text.corpus()])["input_ids"]
    first = words.convert_tokens_to_ids("<|vision_start|>")
    assert {row.index(first) for row in ids} == {vision.DROPPED}
    assert len({tuple(row) for row in ids}) == len(ids)
    assert words.decode(words("Zebra, über 3!")["input_ids"]) == "Zebra, über 3!"


def test_it_begins_with_the_blocks_of_its_teacher(model, teacher, tiny, seen) -> None:
    torch.manual_seed(0)
    made = models.untrained("qwen-nano")
    made.see(tiny)
    warm.take_over(made, teacher)
    x, words, temb = torch.randn(2, 6, 192), torch.randn(2, 4, 192), torch.randn(2, 192)
    ours = made.transformer.transformer_blocks[1](x, words, None, temb)
    theirs = teacher.transformer.transformer_blocks[1](x, words, temb)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, atol=1e-4)
    single, block = teacher.transformer.single_transformer_blocks[0], made.transformer.transformer_blocks[4]
    single.proj_out.weight[:, 192:] = 0  # where nothing is fed forward, the two are the same
    block.img_mlp.net[2].weight.data.zero_()
    block.txt_mlp.net[2].weight.data.zero_()
    for one, other in zip(block(x, words, None, temb), single(x, words, temb), strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_the_encoder_learns_what_its_teacher_says(teacher, tiny, seen, capsys) -> None:
    torch.manual_seed(0)
    made = models.untrained("qwen-nano")
    made.see(tiny)
    sources = tiny.encode(seen).latents * tiny.config.scaling_factor
    phrase = torch.tensor([text.corpus().index("make it sunset")])
    said = teacher.text_encoder_2(teacher.get_buffer("t5_ids")[phrase])[0][0, :3]  # its three words

    @torch.no_grad()
    def error() -> float:
        hidden, _ = made.words(made.looks(sources), phrase)
        first = hidden.shape[1] - warm.LONGEST - warm.TAIL
        return float((made.transformer.txt_norm(hidden)[0, first : first + 3] - said).square().mean())

    before = error()
    warm.learn_words(made, teacher, sources, 6, 0)
    assert error() < 0.75 * before


def test_a_teacher_is_what_is_aimed_at(teacher) -> None:
    generator = torch.Generator().manual_seed(0)
    source, target = torch.randn((2, 4, 16, 16, 16), generator=generator)
    batch = Batch(source, target, torch.arange(4), torch.zeros(4, dtype=torch.bool))
    assert flow_loss(teacher, batch, torch.Generator().manual_seed(1), teacher) == 0
    assert flow_loss(teacher, batch, torch.Generator().manual_seed(1)) > 0.1


def test_the_judge_rules_on_its_pictures_at_the_size_of_the_world(model, vae, tiny) -> None:
    picture = photos.crop(photos.held_out()[:1], (56, 72), np.random.default_rng(5))
    edit = next(edit for edit in EDITS if edit.name == "frame")
    exact = torch.from_numpy(render(edit, picture, edit.answers[3])).permute(2, 0, 1)[None]
    shown = (tiny.decode(tiny.encode(exact * 2 - 1).latents).sample.clamp(-1, 1) + 1) / 2
    ruling = Judge(edit, picture, model.pipeline(vae))(of_the_world(large(shown))[0])
    assert (ruling.answer, ruling.right) == (edit.answers[3], True)
    odd = torch.rand(1, 3, 100, 70)
    assert torch.equal(of_the_world(odd), odd)
