"""The peer strategies on a tiny real pipeline: each does what its paper says, and leaves nothing behind."""

import functools
import math
from typing import Any

import numpy as np
import pytest
import tiny
import tiny_sd3
import torch
from ctxrep_adapters.sd3_instruct import StableDiffusion3InstructPix2PixPipeline
from ctxrep_plugins import peers
from ctxrep_plugins.peers.conditioning import Cads, PromptNoise
from ctxrep_plugins.peers.features import Dave, FeatureSelfGuidance
from ctxrep_plugins.peers.group import GroupInference
from ctxrep_plugins.peers.latents import ParticleGuidance, Sparke
from PIL import Image

from ctxrep_edit import EditSet, InputError, diverse_edit

edit = functools.partial(diverse_edit, instruction=tiny.WORDS, n=3, seed=0, preserve="off", progress=False)
ALL = list(peers.ctxrep_strategies())
each = pytest.mark.parametrize("strategy", ALL, ids=lambda strategy: strategy.name)


def pixels(edits: EditSet) -> np.ndarray:
    return np.stack([np.asarray(image) for image in edits.images]).astype(int)


def hooks(pipeline: Any) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in pipeline.transformer.modules())


@each
def test_it_changes_the_edits_reproducibly_and_leaves_nothing_behind(
    pipeline: Any, picture: Image.Image, strategy: Any
) -> None:
    state = torch.random.get_rng_state()
    plain, one, two = (edit(picture, pipeline=pipeline, strategy=strategy, strength=s) for s in (0, 30, 30))
    assert np.array_equal(pixels(one), pixels(two))
    assert not np.array_equal(pixels(one), pixels(plain))
    assert one.recipe["strategy"] == strategy.name
    assert hooks(pipeline) == 0
    assert torch.equal(torch.random.get_rng_state(), state)


@each
def test_interrupted_it_leaves_nothing_behind(pipeline: Any, picture: Image.Image, strategy: Any) -> None:
    def stop(step: int, steps: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        edit(picture, pipeline=pipeline, strategy=strategy, on_step=stop)
    assert hooks(pipeline) == 0
    assert not {"step", "set_timesteps"} & set(pipeline.scheduler.__dict__)


def into_the_last_block(picture: Image.Image, strategy: Any, strength: float) -> dict[str, torch.Tensor]:
    """What the last of three blocks of SD3 is given in the first step, (9, tokens, dim): three parts under guidance."""
    pipe = tiny_sd3.pipeline(StableDiffusion3InstructPix2PixPipeline)
    seen: list[dict[str, torch.Tensor]] = []
    pipe.transformer.transformer_blocks[-1].register_forward_pre_hook(
        lambda module, args, call: seen.append(call), with_kwargs=True
    )
    options = {"guidance_scale": 3.0, "max_sequence_length": tiny.LENGTH, "width": 48, "height": 32, "steps": 4}
    edit(picture, pipeline=pipe, strategy=strategy, strength=strength, **options)
    return seen[0]


@pytest.mark.parametrize("strategy", [PromptNoise(), Cads(), FeatureSelfGuidance()], ids=lambda strategy: strategy.name)
def test_only_the_rows_that_follow_the_instruction_are_disturbed(picture: Image.Image, strategy: Any) -> None:
    plain, moved = (into_the_last_block(picture, strategy, strength)["hidden_states"] for strength in (0, 1))
    assert torch.equal(plain[3:], moved[3:])
    assert all(not torch.equal(plain[i], moved[i]) for i in range(3))


def test_dave_takes_a_share_of_the_mean_of_the_image_tokens(picture: Image.Image) -> None:
    """After the middle block, in all parts of the batch; the text tokens stay."""
    plain, moved = (into_the_last_block(picture, Dave(), strength) for strength in (0, 0.75))
    assert torch.equal(plain["encoder_hidden_states"], moved["encoder_hidden_states"])
    image = plain["hidden_states"]
    mean = image.mean(1, keepdim=True)
    assert mean.abs().max() > 0.01
    assert torch.allclose(moved["hidden_states"], 0.25 * mean + (image - mean), atol=1e-6)


def test_feature_self_guidance_descends_its_energy() -> None:
    h = torch.randn(4, 30, generator=torch.Generator().manual_seed(0)) * 7 + 5
    u = (h / h.norm(dim=1, keepdim=True)).double()
    for _ in range(30):
        u.requires_grad_(True)
        cosines = torch.cosine_similarity(u[:, None], u[None], dim=-1)
        (gradient,) = torch.autograd.grad((cosines / 0.5).exp().mean().log(), u)
        u = (u - 0.1 * gradient).detach()
    moved = FeatureSelfGuidance().dispersed(h, 0.1)
    assert torch.allclose(moved, h.norm(dim=1, keepdim=True) * u.float(), rtol=1e-4, atol=1e-4)
    assert (moved - h).norm() > 0.1 * h.norm()


def test_feature_self_guidance_runs_the_second_block_again(pipeline: Any, picture: Image.Image) -> None:
    """In the steps from t = 1 to 0.8; the source picture's tokens and the text stay."""
    blocks = [*pipeline.transformer.transformer_blocks, *pipeline.transformer.single_transformer_blocks]
    calls: list[dict[str, torch.Tensor]] = []
    inner: list[torch.Tensor] = []
    for block in blocks[1:3]:
        block.register_forward_pre_hook(lambda module, args, call: calls.append(call), with_kwargs=True)
    blocks[1].norm1.register_forward_hook(lambda module, args, output: inner.append(args[0]))
    strategy = FeatureSelfGuidance()
    edit(picture, pipeline=pipeline, strength=0)
    plain, plain_runs = calls[:2], len(inner)
    calls.clear()
    inner.clear()
    edit(picture, pipeline=pipeline, strategy=strategy)
    moved = calls[1]

    assert (plain_runs, len(inner)) == (4, 6)  # of the block; t is 1, 0.9, 0.75 and 0.5
    generated = plain[1]["hidden_states"].shape[1] // 2
    h = plain[1]["hidden_states"][:, :generated]
    apart = strategy.dispersed(h.flatten(1), strategy.strength).view_as(h)
    given = plain[0]["hidden_states"].clone()
    given[:, :generated] = apart
    with torch.no_grad():
        _, again = blocks[1](**{**plain[0], "hidden_states": given})
    expected = 0.4 * again[:, :generated] + 0.6 * apart
    assert torch.allclose(moved["hidden_states"][:, :generated], expected, atol=1e-5)
    assert torch.equal(moved["hidden_states"][:, generated:], plain[1]["hidden_states"][:, generated:])
    assert torch.equal(moved["encoder_hidden_states"], plain[1]["encoder_hidden_states"])


def test_feature_self_guidance_leaves_the_second_call_of_guidance_alone(pipeline: Any, picture: Image.Image) -> None:
    ran: list[Any] = []
    pipeline.transformer.transformer_blocks[1].norm1.register_forward_hook(lambda *given: ran.append(None))
    options = {"negative_prompt": "add a frame", "true_cfg_scale": 2.0}
    edit(picture, pipeline=pipeline, strategy=FeatureSelfGuidance(), **options)
    assert len(ran) == 2 * 4 + 2


@each
def test_one_candidate_alone(pipeline: Any, picture: Image.Image, strategy: Any) -> None:
    assert len(edit(picture, pipeline=pipeline, strategy=strategy, n=1)) == 1


SIGMAS = torch.linspace(1, 0, 11)


def test_particle_guidance_descends_the_sum_of_its_kernels() -> None:
    x = torch.randn(4, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    distances = (x[:, None] - x[None]).square().sum(-1)
    between = distances[~torch.eye(4, dtype=torch.bool)].detach()
    (-distances * math.log(4) / between.median()).exp().sum().neg().backward()
    moved = ParticleGuidance().pushed(x.detach(), 2.0, SIGMAS, 3) - x.detach()
    assert torch.cosine_similarity(moved.flatten(), x.grad.flatten(), dim=0) > 1 - 1e-9
    assert torch.allclose(ParticleGuidance().pushed(x.detach(), 4.0, SIGMAS, 3) - x.detach(), 2 * moved)


def test_sparke_ascends_its_score() -> None:
    x = torch.randn(4, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    u = x / x.norm(dim=1, keepdim=True)
    kernel = (-(u[:, None] - u[None]).square().sum(-1) / (2 * 0.6**2)).exp()
    (1 / kernel.square().mean()).backward()
    moved = Sparke().pushed(x.detach(), 0.03, SIGMAS, 0) - x.detach()
    assert torch.allclose(torch.cosine_similarity(moved, x.grad, dim=1), torch.ones(4, dtype=torch.float64))
    assert torch.allclose(moved.norm(dim=1), 0.03 * x.detach().norm(dim=1))
    still = [step for step in range(10) if torch.equal(Sparke().pushed(x.detach(), 1.0, SIGMAS, step), x.detach())]
    assert still == [1, 3, 5, 7, 9]  # of ten steps


def test_latents_end_up_farther_apart(pipeline: Any, picture: Image.Image) -> None:
    def spread(strategy: str, strength: float) -> float:
        latents: list[torch.Tensor] = []

        def keep(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            latents.append(tensors["latents"])
            return tensors

        edit(picture, pipeline=pipeline, strategy=strategy, strength=strength, callback_on_step_end=keep)
        return float(torch.cdist(latents[-1].flatten(1), latents[-1].flatten(1)).sum())

    for strategy, strength in (("particle-guidance", 3.0), ("sparke", 0.1)):
        assert spread(strategy, strength) > 1.02 * spread(strategy, 0.0)


def test_group_inference_keeps_the_seeds_that_it_chose(pipeline: Any, picture: Image.Image) -> None:
    evaluations: list[int] = []
    pipeline.transformer.register_forward_pre_hook(
        lambda module, args, call: evaluations.append(len(call["hidden_states"])), with_kwargs=True
    )
    edits = edit(picture, pipeline=pipeline, strategy=GroupInference())
    assert evaluations == [128, 64, 32, 16]  # of four steps
    pipeline.transformer._forward_pre_hooks.clear()
    seeds = [entry.seed for entry in edits]
    assert seeds == sorted(set(seeds))
    assert max(seeds) < 128
    for entry in edits:
        alone = pixels(edit(picture, pipeline=pipeline, strength=0, n=1, seed=entry.seed))
        assert np.abs(alone - np.asarray(entry.image).astype(int)).max() <= 1


def test_more_of_group_inference_starts_from_other_noise(pipeline: Any, picture: Image.Image) -> None:
    first = edit(picture, pipeline=pipeline, strategy=GroupInference(), n=2)
    more = first.more(2, progress=False)
    assert max(entry.seed for entry in first) < 128 < min(entry.seed for entry in more)
    assert not {image.tobytes() for image in first.images} & {image.tobytes() for image in more.images}


def test_a_scope_means_nothing_to_a_peer(pipeline: Any, picture: Image.Image) -> None:
    with pytest.raises(
        InputError, match="The strategy cads takes a strength only: leave scope, window, oversample and repulsion out"
    ):
        edit(picture, pipeline=pipeline, strategy="cads", scope="paper")
