"""The batches of a plan, one after the other, as many as memory asks for."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from ctxrep_edit.errors import ModelError
from ctxrep_edit.imaging import aspect
from ctxrep_edit.plugins.contracts import Run
from ctxrep_edit.sampling.batches import Batches, out_of_memory
from ctxrep_edit.sampling.forming import Foresight
from ctxrep_edit.sampling.plan import Plan
from ctxrep_edit.sampling.pool import Pool
from ctxrep_edit.sampling.run import not_handed, sample
from ctxrep_edit.sampling.waiting import Resumption, Waiting
from ctxrep_edit.settings import Repulsion

TOGETHER = 6
"""Candidates that are chosen from one pool, at least: a choice among those that start for one or two knows too little,
and with the pool grows what passes between its turns."""


@dataclass
class Rounds:
    """Batches of one plan, one after the other. seconds: of sampling. stopped: whether the caller said to stop."""

    plan: Plan
    seconds: float = 0.0
    stopped: bool = False
    _sizes: Batches = field(init=False)
    _done: int = 0  # steps of the batches before
    _last: int = 0  # steps so far
    _left: int = 0  # batches to come, beside the one under way

    def __post_init__(self) -> None:
        plan = self.plan
        self._sizes = Batches(plan.pipeline, plan.request.size, plan.batch_size, plan.adapter.batch)

    def make(
        self, numbers: Sequence[int], seeds: Sequence[int], settings: Repulsion, *, begin: int, again: bool
    ) -> Iterator[tuple[list[int], Tensor, Run]]:
        """Candidates of these numbers from these seeds, a batch at a time: which, pictures (n, 3, h, w), and what the
        strategy noted. A batch that runs out of memory is made again as two halves.

        Where more start than are wanted, those of a few batches start together and are chosen from together; the chosen
        ones of all but the first then wait for their turn.

        settings: an anchor is in the first batch. begin: the seed from which the set counts, with those that start
        beside it. again: whether some of them may have to be made again.
        """
        todo = dict(zip(numbers, seeds, strict=True))
        waiting: Waiting | None = None
        while todo and not self.stopped:
            batch = [*todo][: self._sizes.next(len(waiting.seeds if waiting else todo))]
            starting = [] if waiting else [*todo][: self._together(len(todo), len(batch), settings)]
            self._left = -(-(len(todo) - len(batch)) // len(batch))
            self._prepare(settings, needed=again or len(starting) < len(todo))
            part = self._part(batch, {i: todo[i] for i in starting}, waiting, settings, begin)
            try:
                images, run = self._batch(batch, [todo[i] for i in batch], part, settings)
            except Exception as error:
                if not out_of_memory(error):
                    raise
                images = None  # so that nothing holds on to what ran out
            if images is None:
                if self.plan.together:
                    raise ModelError(f"{len(batch)} candidates at once ran out of memory: ask for fewer, or smaller.")
                self.plan.bank.drop()
                self._last = self._done
                self._sizes.halve(len(batch))
                continue
            if (self._left or self.plan.bank.kept) and settings.active and not self.plan.bank.handed:
                others, otherwise = "those in unlike", "leave unlike out"
                if self._left:
                    others, otherwise = "those of other batches", f"take batch_size={len(self.plan.seeds)}"
                raise not_handed(self.plan.strategy, f"candidates know nothing of {others}", otherwise)
            self.plan.bank.join(starting)
            waiting = part.waiting if isinstance(part, Pool) else waiting and waiting.after(len(batch))
            todo = {i: seed for i, seed in todo.items() if i not in batch}
            settings = replace(settings, anchor=False)
            yield batch, images, run

    def _together(self, left: int, batch: int, settings: Repulsion) -> int:
        """How many of the `left` candidates start with a batch of so many of them, and are chosen from together."""
        if settings.oversample == 1 or self.plan.wordings.apart:
            return batch
        few = batch * math.ceil(TOGETHER / batch)
        return left if left < 2 * few else few

    def _prepare(self, settings: Repulsion, needed: bool) -> None:
        """What the bank is to note of the batch at hand. needed: whether anything in this run will need it."""
        plan, bank = self.plan, self.plan.bank
        bank.noting = (
            plan.ranks is None and plan.strategy.repels and settings.active and (needed or plan.keep is not False)
        )
        bank.spare = not needed and plan.keep is None

    def _part(
        self,
        batch: Sequence[int],
        starting: Mapping[int, int],
        waiting: Waiting | None,
        settings: Repulsion,
        begin: int,
    ) -> Pool | Resumption | None:
        """How a batch is made of more that start than are wanted; None where none do. starting: seeds of those that
        start with it, by their numbers. waiting: those of it and of the batches after it that have started."""
        plan = self.plan
        if waiting is not None:
            return Resumption(plan.adapter, waiting.first(len(batch)), plan.bank)
        if not settings.active or settings.oversample == 1:
            return None
        alone = settings.anchor and len(starting) == 1  # stays whatever starts beside it
        seeds = [*starting.values(), *(() if alone else plan.beside([*starting], begin))]
        return Pool(plan.adapter, plan.pipeline, settings, seeds, len(starting), len(batch), plan.bank)

    def _batch(
        self, numbers: Sequence[int], seeds: Sequence[int], part: Pool | Resumption | None, settings: Repulsion
    ) -> tuple[Tensor, Run]:
        plan, bank = self.plan, self.plan.bank
        seeds = seeds if part is None else part.seeds
        arguments = plan.arguments(seeds, numbers[0])  # with words of its own each is a batch
        self._done, began = self._last, time.perf_counter()
        with self._sizes.measured(len(numbers)):
            images, run, self.stopped = sample(
                plan.pipeline, plan.adapter, plan.strategy, settings, arguments, seeds, part=part,
                progress=plan.progress and self._title(numbers), on_step=self._on_step, words=plan.words,
                bank=bank if bank.noting or bank.kept or part is not None else None, ranks=plan.ranks,
                foresight=self._foresight(numbers),
            )  # fmt: skip
        self.seconds += time.perf_counter() - began
        return images, run

    def _foresight(self, numbers: Sequence[int]) -> Foresight | None:
        plan = self.plan
        if plan.on_preview is None:
            return None
        size = plan.request.size
        shape = aspect(size, plan.request.image.size)
        return Foresight(plan.adapter, plan.pipeline, tuple(numbers), size, shape, plan.on_preview)

    def _title(self, numbers: Sequence[int]) -> str:
        """What the progress bar says of these candidates."""
        n = len(self.plan.seeds)
        if len(numbers) == n:
            return "editing"
        first, last = min(numbers) + 1, max(numbers) + 1
        few = f"{first} to {last}" if len(numbers) == last - first + 1 > 1 else ", ".join(str(i + 1) for i in numbers)
        return f"editing {few} of {n}"

    def _on_step(self, step: int, steps: int) -> None:
        self._last = self._done + step
        if self.plan.on_step is not None:
            self.plan.on_step(self._last, self._done + steps * (1 + self._left))
