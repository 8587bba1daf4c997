"""Repulsion and what skips blocks, or shares out their tokens: refused, or noticed while it runs."""

from typing import Any

import pytest
import tiny
import torch
from diffusers import (
    FasterCacheConfig,
    FirstBlockCacheConfig,
    MagCacheConfig,
    PyramidAttentionBroadcastConfig,
    TaylorSeerCacheConfig,
)
from diffusers.hooks import HookRegistry, ModelHook
from PIL import Image
from tiny import SINGLE, SOME

from ctxrep_edit import RepulsionError, attach, detach, diverse_edit, repelled

FIRST_BLOCK = FirstBlockCacheConfig(threshold=10.0)
CACHES = {
    "first block": FIRST_BLOCK,
    "mag": MagCacheConfig(
        threshold=1e9, max_skip_steps=9, retention_ratio=0.01, num_inference_steps=tiny.STEPS, mag_ratios=torch.ones(4)
    ),
    "taylorseer": TaylorSeerCacheConfig(cache_interval=2, disable_cache_before_step=1),
    "taylorseer lite": TaylorSeerCacheConfig(cache_interval=2, disable_cache_before_step=1, use_lite_mode=True),
    "faster": FasterCacheConfig(current_timestep_callback=lambda: 500, tensor_format="BCHW"),
}


@pytest.mark.parametrize("name", CACHES)
def test_a_cache_that_answers_for_blocks_is_refused(pipeline: Any, picture: Image.Image, name: str) -> None:
    pipeline.transformer.enable_cache(CACHES[name])
    before = tiny.traces(pipeline.transformer)
    for call in (
        lambda: attach(pipeline, SOME, particles=3),
        lambda: tiny.edit(picture, pipeline=pipeline),
    ):
        with pytest.raises(RepulsionError, match=r"has the hook '.*', a cache that skips blocks.*disable_cache"):
            call()
        assert tiny.traces(pipeline.transformer) == before


def test_plain_edits_go_with_a_cache(pipeline: Any, picture: Image.Image) -> None:
    pipeline.transformer.enable_cache(CACHES["mag"])
    assert len(tiny.edit(picture, pipeline=pipeline, strength=0)) == 3


def test_a_cache_of_attention_would_answer_for_other_particles(pipeline: Any, picture: Image.Image) -> None:
    pipeline.transformer.enable_cache(
        PyramidAttentionBroadcastConfig(
            spatial_attention_block_skip_range=2,
            spatial_attention_block_identifiers=("transformer_blocks",),
            current_timestep_callback=lambda: 500,
        )
    )
    with pytest.raises(RepulsionError, match=r"the attention of the call before.*disable_cache"):
        tiny.edit(picture, pipeline=pipeline)
    assert len(tiny.edit(picture, pipeline=pipeline, strength=0)) == 3


def test_a_cache_that_is_enabled_later_is_noticed(pipeline: Any, picture: Image.Image) -> None:
    plain = tiny.run(pipeline, picture)
    run = attach(pipeline, SOME, particles=3)
    pipeline.transformer.enable_cache(CACHES["mag"])
    with pytest.raises(RepulsionError, match=r"In step 1 of the sampler \d of 4 hooked blocks ran.*turn off the cache"):
        tiny.run(pipeline, picture)
    detach(run)
    pipeline.maybe_free_model_hooks()
    pipeline.transformer.disable_cache()
    assert torch.equal(tiny.run(pipeline, picture), plain)


class Skipped(ModelHook):
    """What a cache of anybody's may do: hands on what the block was given."""

    def new_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        return kwargs["encoder_hidden_states"], kwargs["hidden_states"]


def test_a_block_that_hands_on_what_it_was_given_did_not_run(pipeline: Any, picture: Image.Image) -> None:
    block = getattr(pipeline.transformer, SINGLE)[0]
    HookRegistry.check_if_exists_or_initialize(block).register_hook(Skipped(), "theirs")
    message = "In step 0 of the sampler 3 of 4 hooked blocks ran"
    with pytest.raises(RepulsionError, match=message), repelled(pipeline, SOME, particles=3):
        tiny.run(pipeline, picture)


def test_a_step_that_was_answered_for_is_noticed(pipeline: Any, picture: Image.Image) -> None:
    """As by a cache around the whole transformer."""
    forward, calls = pipeline.transformer.__class__.__call__, []

    class Lazy(type(pipeline.transformer)):  # type: ignore[misc]
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            calls.append(1)
            if len(calls) == 2:
                return (torch.zeros_like(kwargs["hidden_states"]),)
            return forward(self, *args, **kwargs)

    pipeline.transformer.__class__ = Lazy
    message = "In step 1 of the sampler the transformer was not called"
    with pytest.raises(RepulsionError, match=message), repelled(pipeline, SOME, particles=3):
        tiny.run(pipeline, picture)


def test_shards_of_tokens_are_noticed(pipeline: Any, picture: Image.Image) -> None:
    """As under context parallelism, where each device's blocks are given a part of the tokens."""

    def shard(module: Any, args: Any, call: dict[str, Any]) -> Any:
        half = call["hidden_states"].shape[1] // 2
        words = call["encoder_hidden_states"].shape[1] // 2
        ids = {"img_ids": call["img_ids"][:half], "txt_ids": call["txt_ids"][:words]}
        streams = {"hidden_states": call["hidden_states"][:, :half]}
        return args, {**call, **ids, **streams, "encoder_hidden_states": call["encoder_hidden_states"][:, :words]}

    run = attach(pipeline, SOME, particles=3)
    handle = pipeline.transformer.register_forward_pre_hook(shard, with_kwargs=True)
    with pytest.raises(RepulsionError, match="given 16 text tokens, but its blocks have 8: under context parallelism"):
        tiny.run(pipeline, picture)
    handle.remove()
    detach(run)


def test_the_hooks_of_context_parallelism_are_refused(pipeline: Any) -> None:
    registry = HookRegistry.check_if_exists_or_initialize(pipeline.transformer)
    registry.register_hook(ModelHook(), "cp_input---")
    with pytest.raises(RepulsionError, match=r"cp_input.*context parallelism, which gives each device a part"):
        attach(pipeline, SOME, particles=3)


def test_a_broken_run_leaves_no_cache_half_full(pipeline: Any, picture: Image.Image) -> None:
    def stop(step: int, steps: int) -> None:
        if step == 2:
            raise TimeoutError

    pipeline.transformer.enable_cache(CACHES["mag"])
    one, two = (tiny.pixels(tiny.edit(picture, pipeline=pipeline, strength=0)) for _ in range(2))
    assert (one == two).all()
    with pytest.raises(TimeoutError):
        diverse_edit(
            picture, tiny.WORDS, 3, pipeline=pipeline, strength=0, preserve="off", progress=False, on_step=stop
        )
    assert (tiny.pixels(tiny.edit(picture, pipeline=pipeline, strength=0)) == one).all()
