"""Repulsion on a real transformer: where it moves tokens, where it does not, and that it leaves no trace."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from accelerate.hooks import ModelHook as AccelerateHook
from accelerate.hooks import add_hook_to_module, remove_hook_from_module
from ctxrep_adapters.flux_kontext import FluxKontext
from diffusers.hooks import HookRegistry, ModelHook
from PIL import Image
from torch import Tensor

from ctxrep_edit import (
    InputError,
    Repulsion,
    RepulsionError,
    Scope,
    UnknownPipeline,
    attach,
    detach,
    repelled,
)
from ctxrep_edit.repulsion import hooks
from ctxrep_edit.repulsion.clock import Clock
from ctxrep_edit.repulsion.hooks import Attachment

DOUBLE, SINGLE = "transformer_blocks", "single_transformer_blocks"
BLOCKS = [(DOUBLE, 0), (DOUBLE, 1), (SINGLE, 0), (SINGLE, 1)]
SOME = Repulsion(scope="generated", strength=1.0, steps=2)
WORDS = torch.arange(tiny.LENGTH) < tiny.TOKENS


@dataclass
class Move:
    """What the hook changed at one call of one block, bool (batch, tokens), and the tokens before and after it."""

    block: tuple[str, int]
    text: Tensor
    image: Tensor
    before: Tensor
    after: Tensor

    @property
    def any(self) -> bool:
        return bool(self.text.any() or self.image.any())


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[Move]]:
    """Records every call of every block of a pipeline, in order."""

    def start(pipeline: Any) -> list[Move]:
        moves: list[Move] = []
        raw: dict[int, tuple[Tensor, Tensor]] = {}

        def kept(original: Callable[..., Any]) -> Callable[..., Any]:
            def forward(block: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
                out = original(block, *args, **kwargs)
                raw[id(block)] = tuple(stream.clone() for stream in out)
                return out

            return forward

        def seen(place: tuple[str, int]) -> Callable[..., None]:
            def hook(block: torch.nn.Module, args: Any, out: tuple[Tensor, Tensor]) -> None:
                text, image = ((a != b).any(-1) for a, b in zip(raw[id(block)], out, strict=True))
                moves.append(Move(place, text, image, torch.cat(raw[id(block)], 1), torch.cat(out, 1)))

            return hook

        for attribute in (DOUBLE, SINGLE):
            blocks = getattr(pipeline.transformer, attribute)
            monkeypatch.setattr(type(blocks[0]), "forward", kept(type(blocks[0]).forward))
            for i, block in enumerate(blocks):
                block.register_forward_hook(seen((attribute, i)))
        return moves

    return start


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


# Where and when


def hooked_blocks(scope: str) -> set[tuple[str, int]]:
    """Of two double and two single blocks, some scopes take a share."""
    if scope in ("middle", "late-double"):
        return {(DOUBLE, 1), (SINGLE, 0)} if scope == "middle" else {(DOUBLE, 1)}
    return {block for block in BLOCKS if block[0] in FluxKontext.scopes[scope].blocks}


@pytest.mark.parametrize(
    ("share", "count", "wanted"),
    [((0, 1), 5, [0, 1, 2, 3, 4]), ((0.5, 1), 4, [2, 3]), ((1 / 3, 2 / 3), 57, [*range(19, 38)]), ((0.9, 1), 2, [1])],
)
def test_a_share_of_the_blocks(share: tuple[float, float], count: int, wanted: list[int]) -> None:
    assert [*Scope({}, "", {"blocks": share}).chosen("blocks", count)] == wanted


@pytest.mark.parametrize("steps", [1, 2, 9])
@pytest.mark.parametrize("scope", [*FluxKontext.scopes])
def test_moves_in_its_steps_and_blocks_alone(
    pipeline: Any, picture: Image.Image, watch: Any, scope: str, steps: int
) -> None:
    moves = watch(pipeline)
    with repelled(pipeline, replace(SOME, scope=scope, steps=steps), particles=3, instruction=WORDS) as run:
        tiny.run(pipeline, picture)
    assert [move.block for move in moves] == BLOCKS * tiny.STEPS
    hooked = hooked_blocks(scope)
    wanted = [step < steps and place in hooked for step in range(tiny.STEPS) for place in BLOCKS]
    assert [move.any for move in moves] == wanted
    assert len(run.vendi) == sum(wanted)
    assert all(1 <= before < after <= 3 for before, after in run.vendi)


@pytest.mark.parametrize("scope", [*FluxKontext.scopes])
def test_moves_its_tokens_alone(pipeline: Any, picture: Image.Image, watch: Any, scope: str) -> None:
    moves = watch(pipeline)
    with repelled(pipeline, replace(SOME, scope=scope, steps=1), particles=3, instruction=WORDS):
        tiny.run(pipeline, picture)
    generated = torch.arange(2 * tiny.GENERATED) < tiny.GENERATED
    for move in moves[:4]:
        hooked = move.block in hooked_blocks(scope)
        parts = FluxKontext.scopes[scope].blocks[move.block[0]] if hooked else frozenset()
        text = WORDS * ("instruction" in parts) + ~WORDS * ("padding" in parts)
        image = generated * ("generated" in parts) + ~generated * ("reference" in parts)
        assert torch.equal(move.text, text.expand(3, -1))
        assert torch.equal(move.image, image.expand(3, -1))


@pytest.mark.parametrize("keep_norm", [True, False])
def test_keep_norm(pipeline: Any, picture: Image.Image, watch: Any, keep_norm: bool) -> None:
    moves = watch(pipeline)
    with repelled(pipeline, replace(SOME, keep_norm=keep_norm), particles=3):
        tiny.run(pipeline, picture)
    before, after = (tensor.norm(dim=-1) for tensor in (moves[0].before, moves[0].after))
    assert torch.allclose(before, after, rtol=1e-5) == keep_norm


def test_the_first_particle_can_stay(pipeline: Any, picture: Image.Image) -> None:
    plain = tiny.run(pipeline, picture)
    with repelled(pipeline, replace(SOME, anchor=True), particles=3):
        moved = tiny.run(pipeline, picture)
    assert [torch.equal(a, b) for a, b in zip(plain, moved, strict=True)] == [True, False, False]


def test_one_particle_has_no_other(pipeline: Any, picture: Image.Image) -> None:
    plain = tiny.run(pipeline, picture, 1)
    with repelled(pipeline, SOME, particles=1) as run:
        assert torch.equal(tiny.run(pipeline, picture, 1), plain)
    assert set(run.vendi) == {(1.0, 1.0)}


@pytest.mark.parametrize("particles", [3, 6])
def test_groups_know_nothing_of_one_another(pipeline: Any, picture: Image.Image, particles: int) -> None:
    def first_group(other: str, noise: int) -> Tensor:
        numbers = [0, 1, 2, *range(noise, noise + 3)]
        generators = [torch.Generator().manual_seed(number) for number in numbers]
        return tiny.run(pipeline, picture, prompt=[tiny.WORDS, other], generator=generators)[:3]

    with repelled(pipeline, SOME, particles=particles):
        one, two = first_group("add a frame", 10), first_group("add a sticker", 20)
    assert not torch.equal(one, first_group("add a frame", 10))
    assert torch.equal(one, two) == (particles == 3)


# Guidance


@pytest.mark.parametrize("guidance", ["conditional", "both"])
def test_guidance_in_two_calls(pipeline: Any, picture: Image.Image, watch: Any, guidance: Any) -> None:
    moves = watch(pipeline)
    with repelled(pipeline, replace(SOME, guidance=guidance, steps=1), particles=3):
        tiny.run(pipeline, picture, negative_prompt="add a frame", true_cfg_scale=2.0)
    assert len(moves) == 2 * 4 * tiny.STEPS
    assert [move.any for move in moves] == [True] * 4 + [guidance == "both"] * 4 + [False] * 8 * (tiny.STEPS - 1)


class Stacked(FluxKontext):
    """A family whose guidance is one call of [negative, positive]."""

    guidance = ("unconditional", "conditional")


@pytest.mark.parametrize(
    ("batch", "guided", "guidance", "rows"),
    [
        (2, False, "conditional", [0, 1]),
        (4, False, "conditional", [0, 1, 2, 3]),  # two prompts
        (4, True, "conditional", [2, 3]),
        (4, True, "both", [0, 1, 2, 3]),
        (8, True, "conditional", [4, 5, 6, 7]),
    ],
)
def test_guidance_in_one_batch(batch: int, guided: bool, guidance: Any, rows: list[int]) -> None:
    run = Attachment(Stacked(), replace(SOME, guidance=guidance), 2, None, Clock(Stacked(), lambda: guided))
    text = torch.randn(batch, 5, 8, generator=torch.Generator().manual_seed(0))
    run.begin(None, (), {"timestep": torch.ones(1), "hidden_states": text, "img_ids": torch.zeros(5, 3)})
    moved, _ = run.move(text, text, frozenset({"instruction"}), 0)
    assert (moved != text).flatten(1).any(1).nonzero().flatten().tolist() == rows


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


# Without a trace


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


# Compiled


@pytest.fixture
def compiled() -> Iterator[Callable[[torch.nn.Module], torch.nn.Module]]:
    torch.compiler.reset()
    yield lambda module: torch.compile(module, backend="eager")
    torch.compiler.reset()


@pytest.mark.parametrize("what", ["block", "block in place", "transformer"])
def test_compiled(pipeline: Any, picture: Image.Image, compiled: Any, what: str) -> None:
    for attribute in (DOUBLE, SINGLE):  # one of each, and one step, for the sake of time
        setattr(pipeline.transformer, attribute, getattr(pipeline.transformer, attribute)[:1])
    once = {"num_inference_steps": 1}
    with repelled(pipeline, replace(SOME, scope="context"), particles=3):
        wanted = tiny.run(pipeline, picture, **once)
    plain = tiny.run(pipeline, picture, **once)
    blocks = pipeline.transformer.transformer_blocks
    if what == "transformer":
        pipeline.transformer = compiled(pipeline.transformer)
    elif what == "block":
        blocks[0] = compiled(blocks[0])
    else:
        blocks[0].compile(backend="eager")
    assert torch.allclose(tiny.run(pipeline, picture, **once), plain, atol=1e-5)  # compiled without the hook
    before = tiny.traces(pipeline.transformer)
    with repelled(pipeline, replace(SOME, scope="context"), particles=3) as run:
        moved = tiny.run(pipeline, picture, **once)
    assert len(run.vendi) == 1
    assert torch.allclose(moved, wanted, atol=1e-5)
    assert not torch.allclose(moved, plain, atol=1e-5)
    assert tiny.traces(pipeline.transformer) == before
    assert torch.allclose(tiny.run(pipeline, picture, **once), plain, atol=1e-5)


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strength": -1}, "strength is -1, but must be a finite number >= 0"),
        ({"strength": float("nan")}, "strength is nan"),
        ({"strength": 10**400}, "strength is 1000"),
        ({"strength": "strong"}, "strength is 'strong'"),
        ({"eta": float("inf")}, "eta is inf"),
        ({"steps": 0}, "steps of the repulsion is 0, but must be a whole number >= 1"),
        ({"iterations": 1.5}, "iterations of the repulsion is 1.5"),
        ({"schedule": "cosine"}, "schedule is 'cosine', but must be one of constant, linear"),
        ({"objective": "vendi"}, "objective is 'vendi', but must be one of entropy, renyi2"),
        ({"guidance": "none"}, "guidance is 'none', but must be one of conditional, both"),
    ],
)
def test_settings_that_cannot_be_used(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Repulsion(**change)


def test_settings_from_numpy_are_plain_numbers() -> None:
    found = Repulsion(strength=np.float32(0.5), eta=np.float32(2), steps=np.int64(3), iterations=np.int32(4))
    assert json.loads(json.dumps(asdict(found))) == asdict(Repulsion(strength=0.5, eta=2.0, steps=3, iterations=4))


@pytest.mark.parametrize("raw", [False, True], ids=["strength", "eta"])
def test_the_step_size_follows_its_schedule(
    pipeline: Any, picture: Image.Image, monkeypatch: pytest.MonkeyPatch, raw: bool
) -> None:
    sizes: dict[str, list[float]] = {}
    original = hooks.repel
    name = "eta" if raw else "strength"
    for schedule in ("constant", "linear"):
        seen = sizes.setdefault(schedule, [])
        note = lambda *args, seen=seen, **options: seen.append(options[name]) or original(*args, **options)  # noqa: E731
        monkeypatch.setattr(hooks, "repel", note)
        chosen = replace(SOME, scope="context", steps=3, schedule=schedule, **{name: 0.9})
        with repelled(pipeline, chosen, particles=3):
            tiny.run(pipeline, picture, num_inference_steps=4)
    blocks = len(pipeline.transformer.transformer_blocks)
    assert sizes["constant"] == [0.9] * 3 * blocks
    assert sizes["linear"] == pytest.approx([0.9] * blocks + [0.6] * blocks + [0.3] * blocks)


def test_a_raw_step_size_replaces_the_strength(pipeline: Any, picture: Image.Image, watch: Any) -> None:
    assert not replace(SOME, eta=0.0).active
    moves = watch(pipeline)
    with repelled(pipeline, replace(SOME, scope="context", strength=0.5, steps=1), particles=3):
        by_strength = tiny.run(pipeline, picture)
    tokens = moves[0].before[:, : tiny.LENGTH].double()
    eta = 0.5 * float(tokens.flatten(1).square().sum(1).mean())
    one_block = {"num_inference_steps": 1}
    with repelled(pipeline, replace(SOME, scope="context", strength=9.0, eta=eta, steps=1), particles=3):
        tiny.run(pipeline, picture, **one_block)
    assert torch.allclose(moves[4 * tiny.STEPS].after, moves[0].after, atol=1e-6)
    assert not torch.equal(moves[0].after, moves[0].before)
    assert by_strength.isfinite().all()
