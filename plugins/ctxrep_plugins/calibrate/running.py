"""One calibration: what is asked, what was measured, and what follows."""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ctxrep_plugins.calibrate import design, rule, tasks
from ctxrep_plugins.calibrate.design import Cell
from ctxrep_plugins.calibrate.measuring import Measured, made, measured
from ctxrep_plugins.calibrate.search import Search
from ctxrep_plugins.calibrate.state import PLAIN, SHOWN, State
from ctxrep_plugins.shared import file_digest

from ctxrep_edit import CHECKS, DEFAULT_CHECKS, EMBEDDERS, Check, EditSet, InputError, adapter_for, contact_sheet


class Calibration:
    """Everything that can be wrong is found when it is made. out: the folder of its state. Other parameters are those
    of the command."""

    def __init__(
        self, pipeline: Any, model: str, out: Path, *, photos: Path | None = None, instructions: Path | None = None,
        embedder: str = "alexnet", clip: str | None = None, n: int = 4, scopes: Sequence[str] = (),
        oversample: int | None = None, steps: int | None = None, seed: int = 0,
    ) -> None:  # fmt: skip
        self.pipeline, self.model, self.n, self.steps, self.embedder = pipeline, model, n, steps, embedder
        self.adapter = adapter_for(pipeline)
        EMBEDDERS.get(embedder)
        self.checks = _checks(clip)
        self.cells = design.first(pipeline, scopes, oversample)
        self.before = design.in_force(pipeline)
        files, words = tasks.photographs(photos), tasks.instructions(instructions, model, pipeline)
        self.tasks = tasks.tasks(files, words, seed)
        if len(self.tasks) < rule.LEAST:
            raise InputError(
                f"{len(self.tasks)} pairs of a photograph and an instruction are too few to tell settings apart: give "
                f"at least {rule.LEAST}."
            )
        self.state = State(
            out,
            {
                "model": model, "n": n, "steps": steps, "seed": seed, "embedder": embedder, "following": clip,
                "oversample": self.cells[0].oversample, "instructions": words,
                "photos": [f"{file.name} {file_digest(file)[:12]}" for file in files],
            },
        )  # fmt: skip
        self.search = self._search(0.0)
        self._recall()

    def measure(self, seconds: float) -> None:
        """Measures for so long, or until all is done, and writes each set down at once."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console, end = Console(stderr=True), time.monotonic() + seconds
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            bar = progress.add_task("the first set", total=None)

            def over(done: int, of: int) -> None:
                left = max(0.0, end - time.monotonic()) / 60
                progress.update(bar, completed=done, total=of, description=f"this round; budget {left:.0f} min")

            self.search = self._search(seconds)
            self.search.over = over
            self.search.run()
        self._recall()

    @property
    def rulings(self) -> dict[Cell, rule.Ruling]:
        return dict(self.search.rulings())

    @property
    def found(self) -> Cell | None:
        """The setting that the rule takes, of those that were measured on the most tasks."""
        finalists = self.search.finalists()
        best = rule.best({cell.label: one for cell, one in finalists.items()})
        return next((cell for cell in finalists if cell.label == best), None)

    def named(self, label: str) -> Cell:
        """A setting by its label. Raises InputError for one with a scope that the family has not."""
        cell = design.named(label, self.cells[0].oversample)
        self.adapter.scope(cell.scope)
        cell.repulsion  # noqa: B018 (its ranges are checked)
        return cell

    def how(self, by_hand: bool = False) -> dict[str, Any]:
        """What the model's file says of its settings."""
        return {
            "date": datetime.date.today().isoformat(),
            "by": "hand" if by_hand else "rule",
            "tasks": max((one.tasks for one in self.rulings.values()), default=0),
            **{name: self.state.asked[name] for name in ("n", "steps", "embedder", "following")},
        }

    def verdict(self, cell: Cell | None, by_hand: bool = False) -> str:
        """In one sentence."""
        found = self.rulings
        if cell is None:
            early = " The budget ended first: give more minutes and go on." if self.search.ended_early else ""
            return f"No setting helps on {self.model}: {self._why()}{early}"
        taken = f"{cell.label} is taken by hand" if by_hand else cell.label
        if cell not in found:
            return f"{taken}, without having been measured."
        one = found[cell]
        low, high = one.gain[1:]
        return (
            f"{taken}: {one.gain[0]:.2f} times plain's spread [{low:.2f}, {high:.2f}] on {one.tasks} tasks in "
            f"{one.cost:.2f} of its time, with losses {'inside' if one.admissible else 'beyond'} plain's interval."
        )

    def to_dict(self, cell: Cell | None) -> dict[str, Any]:
        return {
            "model": self.model,
            "found": None if cell is None else cell.settings,
            "ended_early": self.search.ended_early,
            "settings": {one.label: _row(ruling) for one, ruling in self.rulings.items()},
        }

    def _why(self) -> str:
        finalists = self.search.finalists().values()
        if max((one.tasks for one in finalists), default=0) < rule.LEAST:
            return f"nothing was measured on {rule.LEAST} tasks yet."
        if not all(one.edits for one in finalists):
            return "checks object to most of its plain edits, so that there is nothing to hold."
        if any(one.admissible for one in finalists):
            return "what keeps plain's losses does not surely spread more."
        return "whatever spreads more loses more than plain sampling."

    def edits(self, cell: Cell | None, task: tasks.Task) -> EditSet:
        """One set; None: plain sampling."""
        repulsion = None if cell is None else cell.repulsion
        return made(self.pipeline, task, repulsion, self.n, self.steps, self.checks)

    def _search(self, seconds: float) -> Search:
        known = sum(len(sets) for sets in self.state.sets.values())
        return Search(self.cells, self.tasks, self._measured, seconds, known)

    def _recall(self) -> None:
        """All that the state holds of settings, also of those that another budget tried."""
        self.search.plain = dict(self.state.sets.get(PLAIN, {}))
        for label, sets in self.state.sets.items():
            if label != PLAIN:
                self.search.sets[design.named(label, self.cells[0].oversample)] = dict(sets)

    def _measured(self, cell: Cell | None, task: tasks.Task) -> Measured:
        label = PLAIN if cell is None else cell.label
        if not self.state.has(label, task.number):
            edits = self.edits(cell, task)
            row = edits.row(f"{label}: {task.instruction}")
            sheet = contact_sheet([row]) if task.number < SHOWN else None
            self.state.add(label, task.number, measured(edits, self.embedder), sheet)
        return self.state.sets[label][task.number]


def _checks(clip: str | None) -> list[Check]:
    from ctxrep_plugins.checks.following import Following

    named = [CHECKS.get(name) for name in DEFAULT_CHECKS]
    checks = named if clip is None else [*named, Following(clip, least=-1.0)]
    for check in checks:
        check.prepare()
    return checks


def _row(one: rule.Ruling) -> dict[str, Any]:
    losses = {loss.name: {"value": loss.value, "plain": loss.plain, "bound": loss.bound} for loss in one.losses}
    return {
        "tasks": one.tasks, "spread": one.spread, "plain": one.plain, "gain": list(one.gain),
        "different": one.different, "cost": one.cost, "losses": losses, "helps": one.helps,
    }  # fmt: skip
