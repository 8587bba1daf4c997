"""Repulsion on a real transformer: where it moves tokens and by how much, and where it does not."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch
from ctxrep_adapters.flux_kontext import FluxKontext
from PIL import Image
from tiny import DOUBLE, SINGLE, SOME
from torch import Tensor

from ctxrep_edit import Scope, repelled
from ctxrep_edit.repulsion import attachment
from ctxrep_edit.repulsion.ascent import step_of_one
from ctxrep_edit.repulsion.attachment import Attachment
from ctxrep_edit.repulsion.clock import Clock

BLOCKS = [(DOUBLE, 0), (DOUBLE, 1), (SINGLE, 0), (SINGLE, 1)]
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
    pipeline = SimpleNamespace(do_classifier_free_guidance=guided)
    run = Attachment(Stacked(), replace(SOME, guidance=guidance), 2, None, Clock(Stacked(), pipeline))
    run._blocks.append(SimpleNamespace())  # it is the only one
    text = torch.randn(batch, 5, 8, generator=torch.Generator().manual_seed(0))
    call = {"timestep": torch.ones(1), "hidden_states": text, "encoder_hidden_states": text}
    run.begin(None, (), {**call, "img_ids": torch.zeros(5, 3)})
    moved, _ = run.move(text, text, frozenset({"instruction"}), 0)
    assert (moved != text).flatten(1).any(1).nonzero().flatten().tolist() == rows


# How far


@pytest.mark.parametrize("keep_norm", [True, False])
def test_keep_norm(pipeline: Any, picture: Image.Image, watch: Any, keep_norm: bool) -> None:
    moves = watch(pipeline)
    with repelled(pipeline, replace(SOME, keep_norm=keep_norm), particles=3):
        tiny.run(pipeline, picture)
    before, after = (tensor.norm(dim=-1) for tensor in (moves[0].before, moves[0].after))
    assert torch.allclose(before, after, rtol=1e-5) == keep_norm


@pytest.mark.parametrize("raw", [False, True], ids=["strength", "eta"])
def test_the_step_size_follows_its_schedule(
    pipeline: Any, picture: Image.Image, monkeypatch: pytest.MonkeyPatch, raw: bool
) -> None:
    sizes: dict[str, list[float]] = {}
    original = attachment.repel_parts
    name = "eta" if raw else "strength"
    for schedule in ("constant", "linear"):
        seen = sizes.setdefault(schedule, [])
        note = lambda *args, seen=seen, **options: seen.append(options[name]) or original(*args, **options)  # noqa: E731
        monkeypatch.setattr(attachment, "repel_parts", note)
        chosen = replace(SOME, scope="context", steps=3, schedule=schedule, **{name: 0.9})
        with repelled(pipeline, chosen, particles=3):
            tiny.run(pipeline, picture, num_inference_steps=4)
    blocks = len(pipeline.transformer.transformer_blocks)
    each = 0.9 if raw else 0.9 / blocks
    assert sizes["constant"] == pytest.approx([each] * 3 * blocks)
    assert sizes["linear"] == pytest.approx([each] * blocks + [each * 2 / 3] * blocks + [each / 3] * blocks)


def test_a_raw_step_size_replaces_the_strength(pipeline: Any, picture: Image.Image, watch: Any) -> None:
    assert not replace(SOME, eta=0.0).active
    moves = watch(pipeline)
    with repelled(pipeline, replace(SOME, scope="context", strength=0.5, steps=1), particles=3):
        by_strength = tiny.run(pipeline, picture)
    tokens = moves[0].before[:, : tiny.LENGTH].double()
    blocks = len(pipeline.transformer.transformer_blocks)
    eta = 0.5 / blocks * step_of_one((tokens.flatten(1) @ tokens.flatten(1).T).numpy())
    one_block = {"num_inference_steps": 1}
    with repelled(pipeline, replace(SOME, scope="context", strength=9.0, eta=eta, steps=1), particles=3):
        tiny.run(pipeline, picture, **one_block)
    assert torch.allclose(moves[4 * tiny.STEPS].after, moves[0].after, atol=1e-6)
    assert not torch.equal(moves[0].after, moves[0].before)
    assert by_strength.isfinite().all()


def test_pooled_image_tokens_move_alike(pipeline: Any, picture: Image.Image, watch: Any) -> None:
    moves = watch(pipeline)
    with repelled(pipeline, replace(SOME, scope="pooled", keep_norm=False, anchor=True), particles=3):
        tiny.run(pipeline, picture)
    seen = moves[0]
    moved = seen.after - seen.before
    image = moved[:, tiny.LENGTH : tiny.LENGTH + tiny.GENERATED]
    assert image[1:].abs().amax() > 0
    assert torch.allclose(image, image[:, :1].expand_as(image), atol=1e-5)
    assert torch.equal(seen.after[0], seen.before[0])
    assert torch.equal(seen.after[:, tiny.LENGTH + tiny.GENERATED :], seen.before[:, tiny.LENGTH + tiny.GENERATED :])
