"""Repulsion beside the hooks, the offloading and the compiling of others: each does its part, and theirs stay."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import tiny
import torch
from accelerate.hooks import ModelHook as AccelerateHook
from accelerate.hooks import add_hook_to_module, remove_hook_from_module
from diffusers.hooks import HookRegistry, ModelHook
from PIL import Image
from tiny import DOUBLE, SINGLE, SOME

from ctxrep_edit import attach, detach, repelled


class Counting(ModelHook):
    """Another user's hook that only looks."""

    calls = 0

    def pre_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return args, kwargs


class Replacing(ModelHook):
    """Another user's hook that has a forward of its own, as the caches of diffusers have."""

    calls = 0

    def new_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        text, image = self.fn_ref.original_forward(*args, **kwargs)
        return text, image * 1.5


@pytest.mark.parametrize("ours_first", [False, True])
@pytest.mark.parametrize("theirs", [Counting, Replacing])
def test_beside_another_hook(pipeline: Any, picture: Image.Image, theirs: type[Any], ours_first: bool) -> None:
    plain, clean = tiny.run(pipeline, picture), tiny.traces(pipeline.transformer)
    block, hook = pipeline.transformer.transformer_blocks[0], theirs()

    def add() -> None:
        HookRegistry.check_if_exists_or_initialize(block).register_hook(hook, "theirs")

    add()
    alone = tiny.run(pipeline, picture)
    block._diffusers_hook.remove_hook("theirs")
    del block._diffusers_hook, block.forward
    if not ours_first:
        add()
    before = tiny.traces(pipeline.transformer)
    run = attach(pipeline, SOME, particles=3)
    if ours_first:
        add()
    together = tiny.run(pipeline, picture)
    assert not torch.equal(together, alone)
    detach(run)
    hook.calls = 0
    assert torch.equal(tiny.run(pipeline, picture), alone)
    assert hook.calls == tiny.STEPS
    if not ours_first:
        assert tiny.traces(pipeline.transformer) == before
    block._diffusers_hook.remove_hook("theirs")
    assert torch.equal(tiny.run(pipeline, picture), plain)
    del block._diffusers_hook, block.forward
    assert tiny.traces(pipeline.transformer) == clean


@pytest.mark.parametrize("kind", ["registry", "accelerate"])
def test_what_was_on_the_modules_before_stays(pipeline: Any, picture: Image.Image, kind: str) -> None:
    for block in pipeline.transformer.transformer_blocks:
        if kind == "registry":  # as a cache leaves it when it is switched off
            HookRegistry.check_if_exists_or_initialize(block)
        else:
            add_hook_to_module(block, AccelerateHook())
    tiny.run(pipeline, picture)  # the pipeline itself leaves an empty registry on the transformer
    before = tiny.traces(pipeline.transformer)
    with repelled(pipeline, SOME, particles=3):
        tiny.run(pipeline, picture)
    assert tiny.traces(pipeline.transformer) == before


@pytest.mark.parametrize("ours_first", [False, True])
@pytest.mark.parametrize("kind", ["casting", "offloading"])
def test_beside_the_hooks_of_diffusers(pipeline: Any, picture: Image.Image, kind: str, ours_first: bool) -> None:
    def enable() -> None:
        if kind == "casting":
            pipeline.transformer.enable_layerwise_casting(storage_dtype=torch.bfloat16, compute_dtype=torch.float32)
        else:
            cpu = torch.device("cpu")
            pipeline.transformer.enable_group_offload(cpu, cpu, "block_level", num_blocks_per_group=1)

    if not ours_first:
        enable()
    run = attach(pipeline, SOME, particles=3)
    if ours_first:
        enable()
    moved = tiny.run(pipeline, picture)
    detach(run)
    plain = tiny.run(pipeline, picture)
    assert not torch.equal(moved, plain)
    with repelled(pipeline, SOME, particles=3):
        assert torch.equal(tiny.run(pipeline, picture), moved)
    assert torch.equal(tiny.run(pipeline, picture), plain)


def test_offloading_that_wraps_the_transformer_anew_after_each_run(pipeline: Any, picture: Image.Image) -> None:
    """As `enable_model_cpu_offload` does at the end of every call."""
    add_hook_to_module(pipeline.transformer, AccelerateHook())
    with repelled(pipeline, SOME, particles=3):
        one = tiny.run(pipeline, picture)
        remove_hook_from_module(pipeline.transformer, recurse=True)
        add_hook_to_module(pipeline.transformer, AccelerateHook())
        assert torch.equal(tiny.run(pipeline, picture), one)
    remove_hook_from_module(pipeline.transformer, recurse=True)
    assert not torch.equal(tiny.run(pipeline, picture), one)


# Compiled


@pytest.fixture
def compiled() -> Iterator[Callable[[torch.nn.Module], torch.nn.Module]]:
    torch.compiler.reset()
    yield lambda module: torch.compile(module, backend="eager")
    torch.compiler.reset()


def test_a_compiled_block(pipeline: Any, picture: Image.Image, compiled: Any) -> None:
    for attribute in (DOUBLE, SINGLE):  # one of each, and one step, for the sake of time
        setattr(pipeline.transformer, attribute, getattr(pipeline.transformer, attribute)[:1])
    once = {"num_inference_steps": 1}
    with repelled(pipeline, replace(SOME, scope="context"), particles=3):
        wanted = tiny.run(pipeline, picture, **once)
    plain = tiny.run(pipeline, picture, **once)
    blocks = pipeline.transformer.transformer_blocks
    blocks[0] = compiled(blocks[0])
    assert torch.allclose(tiny.run(pipeline, picture, **once), plain, atol=1e-5)  # compiled without the hook
    before = tiny.traces(pipeline.transformer)
    with repelled(pipeline, replace(SOME, scope="context"), particles=3) as run:
        moved = tiny.run(pipeline, picture, **once)
    assert len(run.vendi) == 1
    assert torch.allclose(moved, wanted, atol=1e-5)
    assert not torch.allclose(moved, plain, atol=1e-5)
    assert tiny.traces(pipeline.transformer) == before
    assert torch.allclose(tiny.run(pipeline, picture, **once), plain, atol=1e-5)
