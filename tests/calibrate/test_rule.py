"""Which setting is taken, and how the budget is spent, on sets whose figures are made up."""

from __future__ import annotations

import types

import numpy as np
import pytest
from ctxrep_plugins.calibrate import design, rule
from ctxrep_plugins.calibrate import search as searching
from ctxrep_plugins.calibrate.design import Cell
from ctxrep_plugins.calibrate.measuring import Measured
from ctxrep_plugins.calibrate.search import Search
from ctxrep_plugins.calibrate.tasks import Task, tasks
from PIL import Image

CELLS = [Cell(scope, strength, 0.1) for strength in (1.0, 0.5, 2.0) for scope in ("good", "idle", "broken")]


def one(spread: float, failed: float = 0.0, lpips: float | None = 0.01, following: float | None = None) -> Measured:
    return Measured(float(spread), 2, failed, lpips, following, 0.001)


def world(cell: Cell | None, task: Task) -> Measured:
    """Only one scope spreads without harm, and that up to a strength of 1.5."""
    wave = 0.1 * np.sin(task.number)
    if cell is None or cell.scope == "idle":
        return one(1.3 + wave, lpips=0.01 + 0.02 * wave)
    harm = cell.scope == "broken" or cell.strength > 1.5
    return one(1.3 + wave + cell.strength * (1.5 if harm else 1.0), lpips=(0.05 if harm else 0.0101) + 0.02 * wave)


def some(count: int = 24) -> list[Task]:
    return [Task(i, "photo", "words", i, Image.new("RGB", (8, 8))) for i in range(count)]


def test_the_most_spread_without_loss_is_found() -> None:
    search = Search(CELLS, some(), world, seconds=60.0)
    search.run()
    assert not search.ended_early
    found = {cell.label: ruling for cell, ruling in search.finalists().items()}
    taken = rule.best(found)
    assert taken is not None
    assert taken in {"good:1.41:0.1", "good:1:0.1", "good:1.42:0.1"}
    assert found[taken].tasks >= rule.LEAST
    low, high = found[taken].gain[1:]
    assert 1 < low < found[taken].gain[0] < high


def test_where_nothing_spreads_none_is_taken() -> None:
    search = Search([cell for cell in CELLS if cell.scope != "good"], some(), world, seconds=60.0)
    search.run()
    assert rule.best({cell.label: ruling for cell, ruling in search.finalists().items()}) is None


def test_a_small_budget_tries_fewer_settings_and_what_is_known_costs_none_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: dict[tuple[Cell | None, int], Measured] = {}
    monkeypatch.setattr(searching, "time", types.SimpleNamespace(monotonic=lambda: float(len(made))))  # one a set

    def slow(cell: Cell | None, task: Task) -> Measured:
        return made.setdefault((cell, task.number), world(cell, task))

    search = Search(CELLS, some(), slow, seconds=20.0)
    search.run()
    assert search.ended_early
    assert len(made) == 21
    assert {cell.strength for cell in list(search.sets)[:3]} == {1.0}  # what the family would take comes first
    again = Search(CELLS, some(), slow, seconds=10.0, known=len(made))
    again.run()
    assert len(made) == 32


def test_a_loss_counts_only_where_both_could_be_measured() -> None:
    plain = {i: one(1.0, lpips=None if i % 2 else 0.01) for i in range(8)}
    sets = {i: one(2.0, lpips=0.5 if i % 2 else 0.01, following=0.1) for i in range(8)}
    ruling = rule.ruling(plain, sets)
    assert [(loss.name, loss.value) for loss in ruling.losses] == [("failed", 0.0), ("lpips", pytest.approx(0.01))]
    assert ruling.helps
    assert ruling.gain == (2.0, 2.0, 2.0)


def test_following_may_not_fall() -> None:
    plain = {i: one(1.0, following=0.3 + 0.01 * (i % 3)) for i in range(9)}
    worse = rule.ruling(plain, {i: one(2.0, following=0.2) for i in range(9)})
    assert [loss.name for loss in worse.over] == ["following"]
    assert not worse.helps
    assert rule.ruling(plain, {i: one(2.0, following=0.4) for i in range(9)}).helps


def test_plain_edits_that_all_fail_leave_nothing_to_hold() -> None:
    plain = {i: one(0.0, failed=1.0) for i in range(9)}
    assert not rule.ruling(plain, {i: one(1.0, failed=0.9) for i in range(9)}).helps


def test_a_few_tasks_are_not_enough() -> None:
    sets = {i: one(2.0) for i in range(rule.LEAST - 1)}
    assert not rule.ruling({i: one(1.0) for i in range(9)}, sets).helps


def test_any_beginning_of_the_tasks_has_all_instructions(tmp_path: object) -> None:
    from ctxrep_plugins.calibrate.tasks import photographs

    made = tasks(photographs(None), ["a", "b", "c", "d"], 7)
    assert len(made) == 24
    assert {task.instruction for task in made[:4]} == {"a", "b", "c", "d"}
    assert len({task.photo for task in made[:4]}) == 4
    assert len({(task.photo, task.instruction) for task in made}) == 24
    assert (made[0].seed, made[1].seed) == (7, 1007)


def test_the_neighbours_of_a_setting() -> None:
    weaker = design.beyond(Cell("middle", 1.5, 0.1), loses=True)
    assert [(cell.strength, cell.window) for cell in weaker] == [(1.06, 0.1), (0.75, 0.1), (0.53, 0.1), (1.5, 0.0707)]
    assert all(cell.window <= 1 for cell in design.beyond(Cell("middle", 1.5, 0.8), loses=False))
    assert len(design.beyond(Cell("middle", 1.5, 1.0), loses=False)) == 3
