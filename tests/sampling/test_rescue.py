"""Runs that end before their time: what was done by then stays what it was, and is not lost."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch
from PIL import Image
from plugging import Even
from sampling.test_batches import six
from sampling.test_rounds import Objects
from tiny import pixels

from ctxrep_edit import Case, Check, EditSet, Verdict, stream_edits

ALL = [0, 1, 2, 3, 4, 5]


class BrokenOff(Check):
    """Somebody presses Ctrl-C while it looks."""

    name, summary = "broken-off", "never done"

    def verdicts(self, case: Case) -> list[Verdict]:
        raise KeyboardInterrupt


def same(edits: EditSet, others: EditSet) -> None:
    """Whether pictures, seeds and what was left behind are one."""
    assert (pixels(edits) == pixels(others)).all()
    assert [edit.seed for edit in edits] == [edit.seed for edit in others]
    for edit, other in zip(edits, others, strict=True):
        assert edit.trace is not None
        assert other.trace is not None
        assert all(torch.equal(edit.trace.memory[place], tokens) for place, tokens in other.trace.memory.items())


@pytest.mark.parametrize("step", [13, 17])
def test_a_round_that_is_broken_off_changes_nothing(pipeline: Any, picture: Image.Image, step: int) -> None:
    first = six(picture, pipeline=pipeline, batch_size=2)

    def stop(done: int, steps: int) -> None:
        if done == step:  # of the round after the first twelve, in its first batch or the second
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as raised:
        six(
            picture, pipeline=pipeline, batch_size=2, on_unfaithful="retry", preserve=[Objects([ALL])], on_step=stop
        )  # fmt: skip
    same(raised.value.edits, first)  # type: ignore[attr-defined]


def test_a_round_that_is_stopped_changes_nothing(pipeline: Any, picture: Image.Image) -> None:
    first, calls = six(picture, pipeline=pipeline, batch_size=2), []

    def stop(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        calls.append(step)
        pipe._interrupt = len(calls) == 13
        return tensors

    edits = six(
        picture, pipeline=pipeline, batch_size=2, on_unfaithful="retry", preserve=[Objects([ALL])],
        callback_on_step_end=stop,
    )  # fmt: skip
    same(edits, first)
    assert edits.recipe["stopped"]
    assert edits.recipe["remade"] == []


@pytest.mark.parametrize("streamed", [False, True])
def test_ctrl_c_in_a_check_costs_no_edit(pipeline: Any, picture: Image.Image, streamed: bool) -> None:
    made = stream_edits(
        picture, tiny.WORDS, 6, pipeline=pipeline, batch_size=2, preserve=[BrokenOff(), Even()], progress=False
    )
    with pytest.raises(KeyboardInterrupt) as raised:
        next(made) if streamed else six(picture, pipeline=pipeline, preserve=[BrokenOff(), Even()])
    edits = raised.value.edits  # type: ignore[attr-defined]
    assert len(edits) == (2 if streamed else 6)
    assert not any(edit.faithful for edit in edits)
    assert {edit.verdicts["broken-off"].reason for edit in edits} == {"not judged: KeyboardInterrupt"}


def test_a_listener_that_fails_costs_no_edit(
    pipeline: Any, picture: Image.Image, registered: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(edits: Any) -> None:
        raise ValueError("no room")

    monkeypatch.setenv("CTXREP_EDIT_STRICT", "1")
    registered(ctxrep_edit_finished=fail)
    with pytest.raises(Exception, match="no room") as raised:
        six(picture, pipeline=pipeline)
    assert len(raised.value.edits) == 6  # type: ignore[attr-defined]
