"""Attached for several runs, detached without a trace, and refused in words where it cannot be attached."""

from dataclasses import replace
from typing import Any

import pytest
import tiny
import torch
from PIL import Image
from tiny import SOME

from ctxrep_edit import InputError, Repulsion, RepulsionError, UnknownPipeline, attach, detach, repelled

# Several runs under one attachment


def test_each_run_starts_anew(pipeline: Any, picture: Image.Image) -> None:
    with repelled(pipeline, SOME, particles=3):
        assert torch.equal(tiny.run(pipeline, picture), tiny.run(pipeline, picture))


def test_each_run_of_one_step_is_repelled(pipeline: Any, picture: Image.Image) -> None:
    with repelled(pipeline, SOME, particles=3):
        one, two = (tiny.run(pipeline, picture, num_inference_steps=1) for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, tiny.run(pipeline, picture, num_inference_steps=1))


def test_a_run_after_a_broken_one_is_repelled(pipeline: Any, picture: Image.Image) -> None:
    def stop(*_: object) -> None:
        raise TimeoutError

    with repelled(pipeline, SOME, particles=3):
        whole = tiny.run(pipeline, picture)
        with pytest.raises(TimeoutError):
            tiny.run(pipeline, picture, callback_on_step_end=stop)
        assert torch.equal(tiny.run(pipeline, picture), whole)


# A few particles at a time


@pytest.mark.parametrize("guided", [False, True])
def test_particles_pass_in_turns(pipeline: Any, picture: Image.Image, guided: bool) -> None:
    """Each from those before; the first ones as if they were alone."""
    options = {"negative_prompt": "add a frame", "true_cfg_scale": 2.0} if guided else {}
    given, rows = replace(SOME, anchor=True, guidance="both"), []
    plain = tiny.run(pipeline, picture, 5, **options)
    with repelled(pipeline, given, particles=5, batch_size=2) as run:
        block = pipeline.transformer.transformer_blocks[0]
        handle = block.register_forward_hook(lambda module, args, out: rows.append(len(out[0])))
        turns = tiny.run(pipeline, picture, 5, **options)
        handle.remove()
    assert set(rows) == {2, 1}
    assert len(run.vendi) == 2 * 4 * 3 * (1 + guided)  # steps, blocks, turns
    assert torch.allclose(turns[0], plain[0], atol=1e-5)  # the anchor
    moved = (turns - plain).abs().amax((1, 2)) > 1e-3
    assert moved.tolist() == [False, True, True, True, True]
    with repelled(pipeline, given, particles=2):
        pair = tiny.run(pipeline, picture, 2, **options)
    assert torch.allclose(turns[:2], pair, atol=1e-5)
    with repelled(pipeline, given, particles=5, batch_size=5):
        assert torch.allclose(tiny.run(pipeline, picture, 5, **options)[1:], plain[1:], atol=1e-3) is False


def test_turns_after_a_broken_run(pipeline: Any, picture: Image.Image) -> None:
    def stop(*_: object) -> None:
        raise TimeoutError

    tiny.run(pipeline, picture)
    before = tiny.traces(pipeline)
    with repelled(pipeline, SOME, particles=3, batch_size=1):
        whole = tiny.run(pipeline, picture)
        handle = pipeline.transformer.single_transformer_blocks[0].register_forward_hook(stop)
        with pytest.raises(TimeoutError):
            tiny.run(pipeline, picture)
        handle.remove()
        assert torch.equal(tiny.run(pipeline, picture), whole)
        with pytest.raises(RepulsionError, match="a batch of 2, which is no multiple of the 3 particles that pass in"):
            tiny.run(pipeline, picture, 2)
    assert tiny.traces(pipeline) == before
    for size in (0, 4, True, 1.5):
        with pytest.raises(InputError, match=r"batch_size is .*, but must be a whole number of the 3 particles"):
            attach(pipeline, SOME, particles=3, batch_size=size)


# Without a trace


def test_a_pool_is_not_for_calls_of_ones_own(pipeline: Any) -> None:
    with pytest.raises(InputError, match=r"oversample is 2, but here nothing starts.*leave it to diverse_edit"):
        attach(pipeline, Repulsion(oversample=2), particles=4)
    detach(attach(pipeline, Repulsion(oversample=1), particles=4))


def test_strength_0_attaches_nothing(pipeline: Any, picture: Image.Image) -> None:
    plain, before = tiny.run(pipeline, picture), tiny.traces(pipeline.transformer)
    with repelled(pipeline, replace(SOME, strength=0.0), particles=3):
        assert tiny.traces(pipeline.transformer) == before
        assert torch.equal(tiny.run(pipeline, picture), plain)


def test_detached_it_is_as_it_was(pipeline: Any, picture: Image.Image) -> None:
    plain, before = tiny.run(pipeline, picture), tiny.traces(pipeline.transformer)
    run = attach(pipeline, SOME, particles=3)
    assert not torch.equal(tiny.run(pipeline, picture), plain)
    detach(run)
    detach(run)  # harmless
    assert tiny.traces(pipeline.transformer) == before
    assert torch.equal(tiny.run(pipeline, picture), plain)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["step", "block"])
def test_an_exception_leaves_nothing(
    pipeline: Any, picture: Image.Image, where: str, error: type[BaseException]
) -> None:
    def stop(*_: object) -> None:
        raise error("stop")

    plain, before = tiny.run(pipeline, picture), tiny.traces(pipeline.transformer)
    handle = pipeline.transformer.single_transformer_blocks[1].register_forward_hook(stop) if where == "block" else None
    with pytest.raises(error, match="stop"), repelled(pipeline, SOME, particles=3):
        tiny.run(pipeline, picture, **({} if handle else {"callback_on_step_end": stop}))
    if handle:
        handle.remove()
    assert tiny.traces(pipeline.transformer) == before
    assert torch.equal(tiny.run(pipeline, picture), plain)


# Loud errors


def test_a_hook_that_never_ran_is_an_error(pipeline: Any) -> None:
    with (
        pytest.raises(RepulsionError, match="never ran, so these edits are plain ones"),
        repelled(pipeline, SOME, particles=3),
    ):
        pass


def test_attaching_twice_is_an_error(pipeline: Any, picture: Image.Image) -> None:
    with repelled(pipeline, SOME, particles=3) as run:
        with pytest.raises(RepulsionError, match="attached to this pipeline already: detach it first"):
            attach(pipeline, SOME, particles=3)
        tiny.run(pipeline, picture)
    assert run.vendi


def test_a_batch_of_another_size_is_an_error(pipeline: Any, picture: Image.Image) -> None:
    message = "batch of 3, which is no multiple of the 2 particles"
    with pytest.raises(RepulsionError, match=message), repelled(pipeline, SOME, particles=2):
        tiny.run(pipeline, picture)


def test_an_instruction_mask_of_another_length_is_an_error(pipeline: Any, picture: Image.Image) -> None:
    message, mask = "mask has 5 tokens, but the transformer was given 16", torch.ones(5, dtype=torch.bool)
    with pytest.raises(RepulsionError, match=message), repelled(pipeline, SOME, particles=3, instruction=mask):
        tiny.run(pipeline, picture)


def test_arguments_that_cannot_be_used(pipeline: Any) -> None:
    before = tiny.traces(pipeline.transformer)
    with pytest.raises(InputError, match="no scope 'everything': choose one of context, "):
        attach(pipeline, replace(SOME, scope="everything"), particles=3)
    with pytest.raises(InputError, match="particles is 0"):
        attach(pipeline, SOME, particles=0)
    with pytest.raises(
        UnknownPipeline, match=r"No adapter drives object\. Known pipelines: .*FluxKontextPipeline.*docs/"
    ):
        attach(object(), SOME, particles=3)
    assert tiny.traces(pipeline.transformer) == before
