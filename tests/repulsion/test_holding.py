"""Answers of the transformer that hold for some steps: whose, for how long, and what comes of it."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch
from conftest import both
from ctxrep_adapters.flux_kontext import FluxKontext
from diffusers import FlowMatchEulerDiscreteScheduler
from PIL import Image
from tiny import SOME, edit, pixels

from ctxrep_edit import EditSet, InputError, Repulsion, RepulsionError, attach, detach, repelled
from ctxrep_edit.repulsion.clock import Clock
from ctxrep_edit.repulsion.holding import lasts, share_of
from ctxrep_edit.repulsion.registry import COMPILED
from ctxrep_edit.settings import completed

WIDE = replace(SOME, steps=None, window=0.6, schedule="constant", anchor=True)
HELD = replace(WIDE, hold=0.3)
STEPS = 8


def ways(pipeline: Any, picture: Image.Image, settings: Repulsion, **options: Any) -> tuple[torch.Tensor, EditSet]:
    """Latents after each step of the first batch, (steps, n, tokens, dim), and the edits."""
    seen: list[torch.Tensor] = []

    def noted(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        seen.append(tensors["latents"].clone())
        return tensors

    edits = edit(picture, pipeline=pipeline, repulsion=settings, steps=STEPS, callback_on_step_end=noted, **options)
    return torch.stack(seen[:STEPS]), edits


def clock_of(steps: int) -> Clock:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=2.0)
    scheduler.set_timesteps(sigmas=[1 - step / steps for step in range(steps)])
    scheduler.set_begin_index(0)
    return Clock(FluxKontext(), SimpleNamespace(scheduler=scheduler))


# For how long


@pytest.mark.parametrize("steps", [2, 4, 6, 12, 20, 28, 50])
@pytest.mark.parametrize(("window", "hold"), [(0.1, 0.06), (0.14, 0.06), (0.14, 0.01), (1.0, 0.2), (1.0, 1.0)])
def test_an_answer_holds_while_so_much_of_the_noise_goes_and_in_the_window_alone(
    steps: int, window: float, hold: float
) -> None:
    clock, settings = clock_of(steps), Repulsion(strength=1.0, window=window, schedule="linear", hold=hold)
    levels = [clock.noise(step)[0] for step in range(steps)]
    inside = [settings.share(step, clock.noise(step)) > 0 for step in range(steps)]
    found = [lasts(settings, clock, step) for step in range(steps)]
    step = 0
    while step < steps:
        last = found[step]
        assert last is not None
        assert found[step + 1 : last + 1] == [None] * (last - step)
        if last > step:
            assert inside[last]
            assert levels[step] - levels[last] < hold
        if last + 1 < steps - 1 and inside[last + 1]:  # no longer would have done
            assert levels[step] - levels[last + 1] >= hold - 1e-4
        step = last + 1
    assert [lasts(replace(settings, hold=0.0), clock, step) for step in range(steps)] == [*range(steps)]


@pytest.mark.parametrize(("steps", "asked"), [(4, 1), (6, 2), (12, 2), (20, 2), (28, 2), (50, 3)])
def test_one_setting_asks_about_as_often_in_any_number_of_steps(steps: int, asked: int) -> None:
    clock, settings = clock_of(steps), Repulsion(strength=1.0, window=0.14, schedule="linear", hold=0.06)
    shares = [share_of(settings, clock, step) for step in range(steps)]
    assert sum(share > 0 for share in shares) == asked


def test_what_holds_for_some_steps_is_one_step_of_the_repulsion() -> None:
    """Its share is the mean over them, by how much noise each takes away."""
    clock, settings = clock_of(12), Repulsion(strength=1.0, window=0.2, schedule="linear", hold=0.1)
    each = [settings.share(step, clock.noise(step)) for step in range(12)]
    taken = [start - end for start, end in map(clock.noise, range(12))]
    last = lasts(settings, clock, 0)
    assert last
    mean = sum(a * b for a, b in zip(each[: last + 1], taken[: last + 1], strict=True)) / sum(taken[: last + 1])
    assert share_of(settings, clock, 0) == pytest.approx(mean)
    assert share_of(settings, clock, 1) == 0


# Whose


@both
@pytest.mark.parametrize(
    "options", [{}, {"oversample": 2}, {"batch_size": 1}, {"oversample": 2, "batch_size": 2}], ids=str
)
def test_those_that_are_moved_go_straight_on_and_the_anchor_is_asked_about(
    pipeline: Any, picture: Image.Image, options: dict[str, Any]
) -> None:
    options = {**options, "mask": Image.new("L", picture.size, 255) if "Inpaint" in type(pipeline).__name__ else None}
    latents, edits = ways(pipeline, picture, HELD, **options)
    plain, plainly = ways(pipeline, picture, replace(WIDE, strength=0.0), **{**options, "oversample": None})
    assert torch.allclose(latents[:, 0], plain[:, 0], atol=1e-4)
    assert pixels(edits)[0] == pytest.approx(pixels(plainly)[0], abs=1)


def test_the_velocity_of_a_held_step_is_that_of_the_one_before(pipeline: Any, picture: Image.Image) -> None:
    velocities: list[torch.Tensor] = []
    step = type(pipeline.scheduler).step

    class Noting(type(pipeline.scheduler)):  # type: ignore[misc]
        def step(self, velocity: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            velocities.append(velocity.clone())
            return step(self, velocity, *args, **kwargs)

    held: list[bool] = []

    def noted(pipe: Any, number: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        held.append(lasts(HELD, Clock(FluxKontext(), pipe), number) is None)
        return tensors

    own = pipeline.scheduler
    pipeline.scheduler = Noting.from_config(own.config)
    edit(picture, pipeline=pipeline, repulsion=HELD, steps=STEPS, callback_on_step_end=noted)
    pipeline.scheduler = own
    assert 0 < sum(held) < STEPS
    for (before, after), is_held in zip(itertools.pairwise(velocities), held[1:], strict=True):
        assert torch.equal(before[1:], after[1:]) == is_held
        assert not torch.equal(before[0], after[0])


def test_the_transformer_is_asked_less(pipeline: Any, picture: Image.Image) -> None:
    rows = {}
    for settings in (WIDE, HELD):
        with pytest.MonkeyPatch.context() as patch:
            given: list[int] = []
            forward = pipeline.transformer.forward

            def counted(*args: Any, forward: Any = forward, given: list[int] = given, **call: Any) -> Any:
                given.append(len(call["hidden_states"]))
                return forward(*args, **call)

            patch.setattr(pipeline.transformer, "forward", counted)
            edit(picture, pipeline=pipeline, repulsion=settings, steps=STEPS)
        vars(pipeline.transformer).pop("forward", None)
        rows[settings.hold] = given
    assert rows[0.0] == [3] * STEPS
    assert set(rows[0.3]) == {1, 3}
    assert len(rows[0.3]) == STEPS


# What it goes together with


def test_sets_go_on_from_one_another_whatever_started_beside_them(pipeline: Any, picture: Image.Image) -> None:
    """The tokens of steps in which nobody was asked are not missed."""
    edits = edit(picture, pipeline=pipeline, repulsion=HELD, steps=STEPS, oversample=2, bank="memory")
    places = {place[0] for place in edits[1].trace.memory}  # type: ignore[union-attr]
    assert 0 < len(places) < max(places) + 1
    more = edits.more(1, progress=False)
    alone = edit(picture, n=1, pipeline=pipeline, repulsion=HELD, steps=STEPS, oversample=1, unlike=edits[1:])
    assert len(more) == len(alone) == 1
    with pytest.raises(InputError, match="made with another hold"):
        edit(picture, n=1, pipeline=pipeline, repulsion=WIDE, steps=STEPS, unlike=edits[1:])


def test_a_pool_in_batches_gives_the_same_again(pipeline: Any, picture: Image.Image) -> None:
    options = {"pipeline": pipeline, "repulsion": HELD, "steps": STEPS, "oversample": 2, "n": 4}
    twos, again = (edit(picture, batch_size=2, **options) for _ in range(2))
    assert (pixels(twos) == pixels(again)).all()
    assert len({image.tobytes() for image in twos.images}) == 4


def test_nothing_is_left_whatever_happens(pipeline: Any, picture: Image.Image) -> None:
    class StopError(Exception):
        pass

    def stop(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if step == 2:
            raise StopError
        return tensors

    run = attach(pipeline, HELD, particles=3)
    assert COMPILED in vars(pipeline.transformer)
    detach(run)
    assert COMPILED not in vars(pipeline.transformer)
    with pytest.raises(StopError), repelled(pipeline, HELD, particles=3):
        raise StopError
    assert COMPILED not in vars(pipeline.transformer)
    with pytest.raises(StopError):
        edit(picture, pipeline=pipeline, repulsion=HELD, steps=STEPS, callback_on_step_end=stop)
    assert COMPILED not in vars(pipeline.transformer)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_transformer_that_is_compiled_in_place(when: str, pipeline: Any, picture: Image.Image) -> None:
    """Compiled before, it is asked as any; after, nothing could hold, and that is said."""
    transformer = pipeline.transformer
    call = {"num_inference_steps": STEPS}
    torch.compiler.reset()
    try:
        with repelled(pipeline, HELD, particles=3):
            wanted = tiny.run(pipeline, picture, **call)
        if when == "before":
            transformer.compile(backend="eager")
            own = vars(transformer)[COMPILED]
            with repelled(pipeline, HELD, particles=3):
                assert torch.allclose(tiny.run(pipeline, picture, **call), wanted, atol=1e-4)
            assert vars(transformer)[COMPILED] is own
            return
        run = attach(pipeline, HELD, particles=3)
        transformer.compile(backend="eager")
        own = vars(transformer)[COMPILED]
        with pytest.raises(RepulsionError, match="compiled in place after"):
            tiny.run(pipeline, picture, **call)
        detach(run)
        assert vars(transformer)[COMPILED] is own
    finally:
        torch.compiler.reset()


# Settings


@pytest.mark.parametrize("hold", [-0.1, 1.5, "x", True])
def test_a_hold_that_is_no_share_is_refused(hold: Any) -> None:
    with pytest.raises(InputError, match="hold is"):
        Repulsion(hold=hold)


def test_where_steps_say_when_particles_repel_each_is_asked_about() -> None:
    with pytest.raises(InputError, match=r"hold is 0\.1 beside steps=2"):
        Repulsion(hold=0.1, steps=2)
    model = Repulsion(strength=1.0, window=0.1, hold=0.06)
    assert completed(Repulsion(steps=2), model).hold == 0
    assert completed(Repulsion(window=0.2), model).hold == 0.06
    assert completed(Repulsion()).hold == 0
