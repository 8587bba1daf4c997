"""Sets made in batches: each repelled from those before, as large as memory allows, and nothing lost where it ends."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import tiny
import torch
from conftest import both
from ctxrep_adapters.flux_kontext import FluxKontext
from ctxrep_plugins.standard import Contextual
from PIL import Image
from sampling.test_rounds import Objects
from tiny import SOME, edit, pixels

from ctxrep_edit import EditSet, EditStream, InputError, ModelError, PluginError, Run, Unfaithful, stream_edits
from ctxrep_edit.sampling import batches, plan
from ctxrep_edit.testing.traces import left_behind

SIX = replace(SOME, anchor=True)
six = functools.partial(edit, n=6, repulsion=SIX)


class OneByOne(FluxKontext):
    """Of pipelines that make one picture per call."""

    batch = 1


class Forgetful(Contextual):
    """Does not hand on the bank."""

    def sample(self, run: Run) -> torch.Tensor:
        run.bank = None
        return super().sample(run)


def settled(pipeline: Any, picture: Image.Image) -> Any:
    """The traces on a pipeline that was called before: diffusers leaves its own at the first call."""
    edit(picture, pipeline=pipeline, n=1, strength=0)
    return tiny.traces(pipeline)


def largest(pipeline: Any, **options: Any) -> tuple[EditSet, int]:
    """The set, and the most rows that the transformer was given at once."""
    rows: list[int] = []
    handle = pipeline.transformer.register_forward_hook(
        lambda module, args, call, out: rows.append(len(call["hidden_states"])), with_kwargs=True
    )
    try:
        return six(options.pop("image"), pipeline=pipeline, **options), max(rows)
    finally:
        handle.remove()


@both
@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_batch_is_no_larger_and_repelled_from_those_before(pipeline: Any, picture: Image.Image, size: int) -> None:
    mask = Image.new("L", picture.size, 255) if "Inpaint" in type(pipeline).__name__ else None
    edits, rows = largest(pipeline, image=picture, batch_size=size, mask=mask)
    assert rows == size
    assert edits.recipe["batches"] == [[*range(i, min(i + size, 6))] for i in range(0, 6, size)]
    plain = edit(picture, pipeline=pipeline, n=6, strength=0, batch_size=size, mask=mask)
    same = (pixels(edits) == pixels(plain)).all((1, 2, 3))
    assert same.tolist() == [True] + [False] * 5  # the anchor alone
    assert [entry.strength for entry in edits] == [0.0] + [1.0] * 5
    again = six(picture, pipeline=pipeline, batch_size=size, mask=mask)
    assert (pixels(again) == pixels(edits)).all()
    assert [entry.seed for entry in edits] == [*range(6)]


def test_plain_candidates_are_the_same_in_any_batches(pipeline: Any, picture: Image.Image) -> None:
    one, two = (edit(picture, pipeline=pipeline, n=3, strength=0, batch_size=size) for size in (3, 1))
    assert abs(pixels(one).astype(int) - pixels(two).astype(int)).max() <= 1  # kernels round by the size of a batch


def test_batches_are_chosen_from_one_pool(pipeline: Any, picture: Image.Image) -> None:
    """All start together, so that what is chosen is not the best of each few, but of all of them."""
    pools = [six(picture, pipeline=pipeline, oversample=3, batch_size=size) for size in (1, 2, 6)]
    assert {str(edits.recipe["started"]) for edits in pools} == {str([*range(18)])}
    for edits in pools:
        seeds = [one.seed for one in edits]
        assert seeds == sorted({*seeds})
        assert seeds[0] == 0
        assert not {*seeds} <= {*range(6)}


# Memory


@pytest.fixture
def short(pipeline: Any) -> Iterator[list[int]]:
    """The transformer runs out of memory with more rows than the one entry says."""
    most = [2]

    def refuse(module: Any, args: Any, call: dict[str, Any]) -> None:
        if len(call["hidden_states"]) > most[0]:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    handle = pipeline.transformer.register_forward_pre_hook(refuse, with_kwargs=True)
    yield most
    handle.remove()


def test_a_batch_that_runs_out_of_memory_is_halved(pipeline: Any, picture: Image.Image, short: list[int]) -> None:
    before = settled(pipeline, picture)
    edits = six(picture, pipeline=pipeline, n=4)
    assert edits.recipe["batches"] == [[0, 1], [2, 3]]
    assert (pixels(edits) == pixels(six(picture, pipeline=pipeline, n=4, batch_size=2))).all()
    assert not left_behind(before, tiny.traces(pipeline))
    short[0] = 0
    with pytest.raises(ModelError, match=r"One candidate of 48 x 32 pixels alone ran out of memory on cpu: make it"):
        six(picture, pipeline=pipeline)
    with pytest.raises(ModelError, match="3 candidates at once ran out of memory: ask for fewer"):
        edit(picture, pipeline=pipeline, strategy="cads")


@pytest.mark.parametrize(
    ("error", "is_it"),
    [
        (torch.OutOfMemoryError("x"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."), True),
        (RuntimeError("MPS backend out of memory"), True),
        (RuntimeError("mat1 and mat2 cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_running_out_of_memory(error: Exception, is_it: bool) -> None:
    assert batches.out_of_memory(error) is is_it


def test_where_memory_is_short_the_first_one_is_measured(
    pipeline: Any, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixel, free = 48 * 32 * 4, [0]
    monkeypatch.setattr(batches, "free_memory", lambda pipeline: free[0])
    monkeypatch.setattr(batches, "_used", lambda pipeline: lambda: 0)
    free[0] = batches.FLOATS_PER_PIXEL * pixel * 4  # four by the estimate
    edits = six(picture, pipeline=pipeline)
    assert edits.recipe["batches"] == [[0], [1, 2, 3, 4, 5]]  # one of them took less than was thought
    free[0] = int(batches.LEAST * pixel * 3 / batches.ROOM)
    assert six(picture, pipeline=pipeline).recipe["batches"] == [[0, 1, 2], [3, 4, 5]]
    free[0] = 0
    assert six(picture, pipeline=pipeline, n=2).recipe["batches"] == [[0], [1]]


def test_what_a_candidate_takes_is_measured(pipeline: Any, picture: Image.Image) -> None:
    six(picture, pipeline=pipeline)
    (taken,) = batches._taken[pipeline].values()
    assert batches.LEAST <= taken / (48 * 32 * 4) <= 100 * batches.FLOATS_PER_PIXEL


def test_the_highest_of_what_was_used_counts() -> None:
    used = [1]
    with batches._highest(lambda: used[0]) as highest:
        used[0] = 5
        deadline = 1000
        while highest[0] < 5 and deadline:
            deadline -= 1
            torch.randn(1000).sort()
        used[0] = 2
    assert highest == [5]


@pytest.mark.parametrize("sliced", [False, True])
def test_pictures_are_decoded_one_by_one(pipeline: Any, picture: Image.Image, sliced: bool) -> None:
    rows: list[int] = []
    pipeline.vae.use_slicing = sliced
    handle = pipeline.vae.decoder.register_forward_hook(lambda module, args, out: rows.append(len(out)))
    six(picture, pipeline=pipeline)
    handle.remove()
    assert rows == [1] * 6
    assert pipeline.vae.use_slicing is sliced
    pipeline.vae.use_slicing = False


def test_a_pipeline_that_makes_one_at_a_time(
    pipeline: Any, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan.catalog, "adapter_for", lambda pipeline: OneByOne())
    edits, rows = largest(pipeline, image=picture)
    assert (rows, edits.recipe["batches"]) == (1, [[i] for i in range(6)])
    with pytest.raises(InputError, match="make at most 1 at once, but cads knows nothing of"):
        edit(picture, pipeline=pipeline, strategy="cads")


# What is refused


@pytest.mark.parametrize("size", [0, 7, -1, 2.0, True, None, "all"])
def test_sizes_that_are_none(pipeline: Any, picture: Image.Image, size: Any) -> None:
    with pytest.raises(InputError, match=r"batch_size is .*, but must be 'auto' or how many of the 6 candidates"):
        six(picture, pipeline=pipeline, batch_size=size)


def test_what_can_only_be_made_at_once(pipeline: Any, picture: Image.Image) -> None:
    with pytest.raises(InputError, match="batch_size is 2, but cads knows nothing of other batch"):
        edit(picture, pipeline=pipeline, strategy="cads", batch_size=2)
    embeds = {"prompt_embeds": torch.randn(3, 16, 32), "pooled_prompt_embeds": torch.randn(3, 32)}
    with pytest.raises(InputError, match="batch_size is 2, but prompt_embeds has a row for each of 3 edits: give one"):
        edit(picture, pipeline=pipeline, batch_size=2, oversample=1, **embeds)
    with pytest.raises(InputError, match="bank is 'ram', but must be one of auto, memory, disk, off"):
        edit(picture, pipeline=pipeline, bank="ram")


def test_a_strategy_that_forgets_the_bank(pipeline: Any, picture: Image.Image) -> None:
    with pytest.raises(PluginError, match=r"does not hand run\.bank .* know nothing of those of other batches: .*=6"):
        six(picture, pipeline=pipeline, strategy=Forgetful(), batch_size=2)


# One by one


def test_edits_come_as_soon_as_they_are_made(pipeline: Any, picture: Image.Image) -> None:
    calls: list[int] = []
    edit(picture, pipeline=pipeline, n=1, strength=0)
    count = pipeline.transformer.register_forward_hook(lambda *_: calls.append(1))
    before = tiny.traces(pipeline)
    stream = stream_edits(
        picture, tiny.WORDS, 6, pipeline=pipeline, repulsion=SIX, seed=0, preserve="off", batch_size=2, progress=False
    )
    assert calls == []
    with pytest.raises(InputError, match="not all made: go through all of them"):
        _ = stream.edits
    seen = []
    for made in stream:
        seen.append((made.index, len(calls) // tiny.STEPS))
        assert not left_behind(before, tiny.traces(pipeline))
        assert torch.get_default_device() == torch.device("cpu")
        assert torch.overrides._len_torch_function_stack() == 0  # no mode of ours lies about
    count.remove()
    assert seen == [(0, 1), (1, 1), (2, 2), (3, 2), (4, 3), (5, 3)]
    assert (pixels(stream.edits) == pixels(six(picture, pipeline=pipeline, batch_size=2))).all()
    assert next(stream, None) is None


def test_a_stream_that_is_left_leaves_nothing(pipeline: Any, picture: Image.Image) -> None:
    before = settled(pipeline, picture)
    for _ in stream_edits(picture, tiny.WORDS, 3, pipeline=pipeline, preserve="off", batch_size=1, progress=False):
        break
    assert not left_behind(before, tiny.traces(pipeline))
    assert len(six(picture, pipeline=pipeline)) == 6


def test_options_are_those_of_diverse_edit(pipeline: Any, picture: Image.Image) -> None:
    with pytest.raises(InputError, match="has no option 'stepz': did you mean steps"):
        stream_edits(picture, tiny.WORDS, 3, pipeline=pipeline, stepz=3)
    options = {
        "pipeline": pipeline,
        "seed": 3,
        "steps": 2,
        "max_sequence_length": 12,
        "preserve": "off",
        "progress": False,
    }
    made = stream_edits(picture, tiny.WORDS, 3, **options).finish()
    assert (pixels(made) == pixels(edit(picture, n=3, **options))).all()


def test_steps_are_counted_over_all_batches(pipeline: Any, picture: Image.Image) -> None:
    seen: list[tuple[int, int]] = []
    six(picture, pipeline=pipeline, batch_size=2, on_step=lambda *step: seen.append(step))
    assert seen == [(i + 1, 12) for i in range(12)]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, torch.OutOfMemoryError])
def test_an_error_keeps_what_was_done(pipeline: Any, picture: Image.Image, error: type[BaseException]) -> None:
    before = settled(pipeline, picture)

    def stop(step: int, steps: int) -> None:
        if step == 9:
            raise error("enough")

    with pytest.raises((error, ModelError)) as raised:
        six(picture, pipeline=pipeline, batch_size=2, on_step=stop)
    assert isinstance(raised.value, ModelError) == (error is torch.OutOfMemoryError)  # it is made again as two halves
    edits = raised.value.edits
    assert (pixels(edits) == pixels(six(picture, pipeline=pipeline, batch_size=2))[: len(edits)]).all()
    assert len(edits) >= 4
    assert f"{len(edits)} of 6 edits were done" in raised.value.__notes__[0]
    assert not left_behind(before, tiny.traces(pipeline))


def test_policies_of_a_stream(pipeline: Any, picture: Image.Image, registered: Any) -> None:
    told: list[int] = []
    registered(ctxrep_candidate_ready=lambda edit, n: told.append(edit.index))

    def streamed(*rounds: Sequence[int], **options: Any) -> tuple[list[int], EditStream]:
        told.clear()
        stream = stream_edits(
            picture, tiny.WORDS, 4, pipeline=pipeline, seed=0, batch_size=2, progress=False,
            preserve=[Objects([*rounds])], **options,
        )  # fmt: skip
        return [one.index for one in stream], stream

    assert streamed([1], [1])[0] == [0, 1, 2, 3]
    came, stream = streamed([1], [1], on_unfaithful="drop")
    assert (came, told) == ([0, 2, 3], [0, 1, 2, 3])
    assert [one.index for one in stream.edits.dropped] == [1]
    came, stream = streamed([1], [1], on_unfaithful="retry")
    assert (came, told) == ([0, 2, 3, 1], [0, 2, 3, 1])
    assert stream.edits.recipe["remade"] == [[1]]
    with pytest.raises(Unfaithful) as raised:
        streamed([1], [1], on_unfaithful="raise")
    assert (told, len(raised.value.edits)) == ([0, 1, 2, 3], 4)


def test_without_a_listener_a_set_is_judged_once(pipeline: Any, picture: Image.Image, registered: Any) -> None:
    check = Objects([])
    six(picture, pipeline=pipeline, batch_size=2, preserve=[check])
    assert [len(some) for some in check.seen] == [6]
    registered(ctxrep_candidate_ready=lambda edit, n: None)
    check = Objects([])
    six(picture, pipeline=pipeline, batch_size=2, preserve=[check])
    assert [len(some) for some in check.seen] == [2, 4, 6]


def test_the_bar_says_which_are_made(pipeline: Any, picture: Image.Image, capfd: pytest.CaptureFixture[str]) -> None:
    edit(picture, n=5, pipeline=pipeline, batch_size=2, progress=True)
    said = capfd.readouterr().err
    assert all(f"editing {which} of 5: 100%" in said for which in ("1 to 2", "3 to 4", "5"))
    edit(picture, n=2, pipeline=pipeline, progress=True)
    assert "editing: 100%" in capfd.readouterr().err
    made = stream_edits(picture, tiny.WORDS, 4, pipeline=pipeline, preserve=[Objects([[0, 2]])], on_unfaithful="retry")
    assert len(made.finish()) == 4
    assert "editing 1, 3 of 4: 100%" in capfd.readouterr().err


def test_a_strategy_that_keeps_the_bank_to_itself_can_be_unlike_nothing(pipeline: Any, picture: Image.Image) -> None:
    first = six(picture, pipeline=pipeline, n=2)
    for others in (first[:1], [picture.rotate(180)]):
        with pytest.raises(PluginError, match=r"does not hand run\.bank to `repelled`, so that .* or leave unlike out"):
            six(picture, pipeline=pipeline, n=2, strategy=Forgetful(), unlike=others)
