"""The peer strategies on a tiny real pipeline: each does what its paper says, and leaves nothing behind."""

import functools
from typing import Any

import numpy as np
import pytest
import tiny
import tiny_sd3
import torch
from ctxrep_adapters.sd3_instruct import StableDiffusion3InstructPix2PixPipeline
from ctxrep_plugins import peers
from ctxrep_plugins.peers.conditioning import Cads, PromptNoise
from ctxrep_plugins.peers.features import Dave
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


@pytest.mark.parametrize("strategy", [PromptNoise(), Cads(), Dave()], ids=lambda strategy: strategy.name)
def test_only_the_rows_that_follow_the_instruction_are_disturbed(picture: Image.Image, strategy: Any) -> None:
    pipe = tiny_sd3.pipeline(StableDiffusion3InstructPix2PixPipeline)
    options = {"guidance_scale": 3.0, "max_sequence_length": tiny.LENGTH, "width": 48, "height": 32, "steps": 4}

    def first(strength: float) -> torch.Tensor:
        seen: list[torch.Tensor] = []
        last = pipe.transformer.transformer_blocks[-1]
        handle = last.register_forward_hook(lambda module, args, out: seen.append(out[1]))
        edit(picture, pipeline=pipe, strategy=strategy, strength=strength, **options)
        handle.remove()
        return seen[0]  # (9, tokens, dim) of the first step

    plain, moved = first(0), first(1)
    assert torch.equal(plain[3:], moved[3:])
    assert all(not torch.equal(plain[i], moved[i]) for i in range(3))


@each
def test_one_candidate_alone(pipeline: Any, picture: Image.Image, strategy: Any) -> None:
    assert len(edit(picture, pipeline=pipeline, strategy=strategy, n=1)) == 1


@pytest.mark.parametrize("strategy", [ParticleGuidance(), Sparke()], ids=lambda strategy: strategy.name)
def test_weights_push_the_nearest_hardest(strategy: Any) -> None:
    x = torch.tensor([[0.0], [1.0], [3.0], [7.0]], dtype=torch.float64)
    w = strategy.weights(torch.cdist(x, x) ** 2)
    assert torch.equal(w, w.T)
    assert w[0, 1] > w[0, 2] > w[0, 3] > 0


def test_latents_end_up_farther_apart(pipeline: Any, picture: Image.Image) -> None:
    def spread(strategy: str, strength: float) -> float:
        latents: list[torch.Tensor] = []

        def keep(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            latents.append(tensors["latents"])
            return tensors

        edit(picture, pipeline=pipeline, strategy=strategy, strength=strength, callback_on_step_end=keep)
        return float(torch.cdist(latents[-1].flatten(1), latents[-1].flatten(1)).sum())

    for strategy in ("particle-guidance", "sparke"):
        assert spread(strategy, 3.0) > 1.02 * spread(strategy, 0.0)


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


def test_a_scope_means_nothing_to_a_peer(pipeline: Any, picture: Image.Image) -> None:
    with pytest.raises(InputError, match="The strategy cads takes a strength only: leave scope and repulsion out"):
        edit(picture, pipeline=pipeline, strategy="cads", scope="paper")
