"""From a plan to the set that the caller gets: each edit as soon as it is done, and all of them at the end."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from ctxrep_edit.errors import InputError, Unfaithful
from ctxrep_edit.faithfulness.judgement import unjudged
from ctxrep_edit.plugins.loading import heard, notify
from ctxrep_edit.results.assembly import assemble, edit_of, settle
from ctxrep_edit.results.continuing import Asked
from ctxrep_edit.results.edit import Edit
from ctxrep_edit.results.editset import EditSet
from ctxrep_edit.sampling.candidates import Candidates
from ctxrep_edit.sampling.carrying import carry_out
from ctxrep_edit.sampling.plan import Plan, plan
from ctxrep_edit.sampling.truncation import told_once


class EditStream(Iterator[Edit]):
    """The edits of a run, each as soon as it is made and judged; `edits` is the set, when all are through.

    An edit comes with what the checks say of it beside those that are there by then; in `edits` they are judged beside
    all. Under on_unfaithful="drop" the unfaithful ones do not come; those that are made again, under "retry" or
    distinct="retry", come then, and so after others; under "raise" Unfaithful is raised at the end. Nothing is made
    before the first is asked for, and nothing is left on the pipeline between two of them.

    An exception that ends the run, Ctrl-C too, has the edits that were done by then as its `edits`, a set.
    """

    def __init__(self, planned: Plan, arguments: Mapping[str, Any], each: bool) -> None:
        self._plan, self._arguments, self._each = planned, arguments, each
        calls = [planned.arguments(planned.seeds, number) for number in range(len(planned.wordings))]
        self._quiet = told_once(planned.pipeline, calls)
        self._made = self._making()
        self._set: EditSet | None = None

    def __iter__(self) -> Iterator[Edit]:
        return self

    def __next__(self) -> Edit:
        return next(self._made)

    @property
    def edits(self) -> EditSet:
        """The set. Raises InputError before the end."""
        if self._set is None:
            raise InputError("The edits are not all made: go through all of them, then ask for the set.")
        return self._set

    def finish(self) -> EditSet:
        """Makes what is left, and returns the set."""
        for _ in self:
            pass
        return self.edits

    def _making(self) -> Iterator[Edit]:
        planned, found, told = self._plan, None, set[int]()
        words = planned.request.instruction
        notify("ctxrep_edit_started", instruction=words, n=len(planned.seeds), recipe=planned.recipe)
        batches = carry_out(planned)
        try:
            while (later := self._next(batches)) is not None:
                found = later
                for edit in self._news(found, told) if self._each else ():
                    yield from self._told(edit)
            assert found is not None  # a plan has one candidate at least
            edits = self._assembled(found)
            for edit in edits:
                if edit.index not in told:
                    yield from self._told(edit)
            self._set = settle(edits, planned.policy.on_unfaithful)
            notify("ctxrep_edit_finished", edits=self._set)
        except (GeneratorExit, Unfaithful):  # nobody asks for more; it has them
            raise
        except BaseException as error:
            if found is not None:
                with suppress(Exception):  # the cause is what counts
                    self._rescue(found, error)
            raise

    def _next(self, batches: Iterator[Candidates]) -> Candidates | None:
        """What is there after the next batch; None where there is none."""
        with on_the_cpu(), self._quiet():
            return next(batches, None)

    def _rescue(self, found: Candidates, error: BaseException) -> None:
        """Gives the error the edits that were done; unjudged, where that is what failed or was broken off."""
        try:
            done = self._assembled(found)
        except BaseException as cause:
            found.verdicts = unjudged(found.checks, len(found.seeds), cause)
            done = self._assembled(found)
        error.edits = done  # type: ignore[attr-defined]
        error.add_note(f"{len(done)} of {len(self._plan.seeds)} edits were done: `edits` of this error has them.")

    def _news(self, found: Candidates, told: set[int]) -> list[Edit]:
        """What is done by now and was not told before."""
        with on_the_cpu():
            again = found.again(self._plan.policy)
            done = [i for i in range(len(found.seeds)) if i not in told and i not in again]
            told.update(done)
            value = self._plan.wordings.value
            return [edit_of(found, i, self._plan.source, self._plan.request.mask, value=value(i)) for i in done]

    def _told(self, edit: Edit) -> Iterator[Edit]:
        notify("ctxrep_candidate_ready", edit=edit, n=len(self._plan.seeds))
        if edit.faithful or self._plan.policy.on_unfaithful in ("flag", "retry"):
            yield edit

    def _assembled(self, found: Candidates) -> EditSet:
        planned = self._plan
        recipe = {**planned.recipe, "timesteps": getattr(planned.pipeline, "num_timesteps", None)}
        if planned.policy.distinct == "retry":
            recipe["agreed"] = found.distances.agreed
        asked = Asked(self._arguments, planned.next_seed, planned.settings.active and planned.strategy.repels)
        with on_the_cpu():
            return assemble(
                found, planned.source, recipe, planned.request.mask, kind=planned.kind, wordings=planned.wordings,
                asked=asked,
            )  # fmt: skip


def on_the_cpu() -> torch.device:
    """In it, what names no device is made on the CPU, whatever default the caller's thread has."""
    return torch.device("cpu")


def stream(arguments: Mapping[str, Any], n: int, *, each: bool = True, **now: Any) -> EditStream:
    """arguments: of `plan`, to be asked again for more like these; now: those of this run alone. each: whether anybody
    looks at the edits before all are done."""
    arguments = {name: _number(value) for name, value in arguments.items()}
    arguments["options"] = {name: _number(value) for name, value in arguments["options"].items()}
    with on_the_cpu():
        planned = plan(**arguments, n=n, **now)
        again = {**arguments, "mask": planned.request.mask}  # as it was read
        if again.get("pipeline") is not None:
            again["pipeline"] = weakref.ref(again["pipeline"])
        return EditStream(planned, again, each or heard("ctxrep_candidate_ready"))


def _number(value: Any) -> Any:
    """Python's own instead of one of numpy's, of which no file can tell."""
    return value.item() if isinstance(value, np.generic) else value
