"""Successive halving: many settings on few tasks, then fewer settings on more of them, within a budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from ctxrep_plugins.calibrate import design, rule
from ctxrep_plugins.calibrate.design import Cell
from ctxrep_plugins.calibrate.measuring import Measured
from ctxrep_plugins.calibrate.tasks import Task

Measure = Callable[[Cell | None, Task], Measured]
FINALISTS = 3
LEADERS = 2  # next to which others are tried


class Search:
    """measure: makes and measures one set, None being plain sampling; what is known already it answers at once.

    seconds: after which no further set is begun. known: how many sets were made before. over: told how many sets of a
    round are done, and of how many.
    """

    def __init__(
        self, cells: Sequence[Cell], tasks: Sequence[Task], measure: Measure, seconds: float, known: int = 0,
        over: Callable[[int, int], None] = lambda done, left: None,
    ) -> None:  # fmt: skip
        self.cells, self.tasks, self.over = list(cells), list(tasks), over
        self._measure, self._end, self._known = measure, time.monotonic() + seconds, known
        self.plain: dict[int, Measured] = {}
        self.sets: dict[Cell, dict[int, Measured]] = {}
        self.ended_early = False

    def run(self) -> None:
        """All rounds, or as many as the budget allows."""
        # 1. One plain set says what a set costs, and that how much can be tried.
        began = time.monotonic()
        self._round([], 1)
        cost = max(1e-6, self.plain[0].seconds if self.plain else 0.0, time.monotonic() - began)
        base = self._fit(self._known + max(0, int((self._end - time.monotonic()) / cost)))
        # 2. All settings on few tasks, half of them on twice as many, and so on.
        left = self.cells
        enough = max(4 * base, rule.LEAST)
        for tasks in (base, 2 * base, enough):
            if not self._round(left, tasks):
                return
            left = self.ranked(left)[: max(FINALISTS, (len(left) + 1) // 2)]
        # 3. What is next to the best ones, and the best of all on twice as many.
        found = self.rulings()
        near = {other for cell in left[:LEADERS] for other in design.beyond(cell, not found[cell].admissible)}
        left = left[:LEADERS] + sorted(near - set(self.sets), key=lambda cell: cell.label)
        for tasks in (enough, 2 * enough):
            if not self._round(left, tasks):
                return
            left = self.ranked(left)[:FINALISTS]

    def rulings(self) -> Mapping[Cell, rule.Ruling]:
        """Of every setting that has been tried."""
        return {
            cell: rule.ruling(self.plain, sets) for cell, sets in self.sets.items() if self.plain.keys() & sets.keys()
        }

    def finalists(self) -> Mapping[Cell, rule.Ruling]:
        """Of those that were tried on the most tasks."""
        found = self.rulings()
        most = max((one.tasks for one in found.values()), default=0)
        return {cell: one for cell, one in found.items() if one.tasks == most}

    def ranked(self, cells: Sequence[Cell]) -> list[Cell]:
        found = self.rulings()
        return sorted((cell for cell in cells if cell in found), key=lambda cell: found[cell].rank, reverse=True)

    def _fit(self, sets: int) -> int:
        """How many tasks the first round has, of at least one; settings that do not fit even then are left out."""
        fixed = 8 + 4 * 4 * LEADERS + 4 * FINALISTS  # per task of the first round: plain, neighbours, finalists

        def per_task(count: int) -> int:
            return fixed + 2 * count

        while len(self.cells) > FINALISTS and per_task(len(self.cells)) > sets:
            self.cells.pop()
        return max(1, min(sets // per_task(len(self.cells)), len(self.tasks) // 8 or 1))

    def _round(self, cells: Sequence[Cell], tasks: int) -> bool:
        """Each of the cells on so many tasks; False where the budget ended it."""
        work = [(cell, task) for task in self.tasks[:tasks] for cell in (None, *cells)]
        for done, (cell, task) in enumerate(work):
            known = self.plain if cell is None else self.sets.setdefault(cell, {})
            if task.number in known:
                continue
            if time.monotonic() > self._end:
                self.ended_early = True
                return False
            known[task.number] = self._measure(cell, task)
            self.over(done + 1, len(work))
        return True
