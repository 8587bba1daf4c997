"""A plan carried out: candidates, judged, and the unfaithful ones made again where that is wanted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache

from PIL import Image
from torch import Tensor

from ctxrep_edit.faithfulness.case import Case, remade
from ctxrep_edit.faithfulness.judgement import judge
from ctxrep_edit.imaging import shrink_mask, to_tensor
from ctxrep_edit.plugins.contracts import Run, Verdict
from ctxrep_edit.repulsion.bank import Bank
from ctxrep_edit.sampling.plan import Plan
from ctxrep_edit.sampling.run import round_trip, sample
from ctxrep_edit.settings import Repulsion


@dataclass
class Candidates:
    """images: (n, 3, h, w) in [0, 1]; seeds, strengths (None: by the raw eta), verdicts: one per candidate. still: how
    many of the first are plain. case: as they were judged. seconds: of sampling. remade: which were made again, by
    round. stopped: whether the caller ended it, so that pictures are unfinished."""

    images: Tensor
    seeds: list[int]
    strengths: list[float | None]
    still: int
    case: Case
    verdicts: list[dict[str, Verdict]]
    contextual_vendi: tuple[float, float] | None = None
    seconds: float = 0.0
    remade: list[list[int]] = field(default_factory=list)
    stopped: bool = False

    @property
    def unfaithful(self) -> list[int]:
        return [i for i, said in enumerate(self.verdicts) if any(verdict.objects for verdict in said.values())]


def carry_out(plan: Plan) -> Candidates:
    """Makes and judges the candidates of a plan, in as many rounds as its policy asks for.

    Raises whatever the pipeline, the strategy or `on_step` raise.
    """
    bank = Bank(noting=len(plan.seeds) > 1) if plan.on_unfaithful == "retry" else None
    rounds = _Rounds(plan, bank)
    found = _first(rounds)
    return found if bank is None else _retry(rounds, bank, found)


@dataclass
class _Rounds:
    """Batches of one plan, one after the other. seconds: of sampling. stopped: whether the caller said to stop."""

    plan: Plan
    bank: Bank | None
    seconds: float = 0.0
    stopped: bool = False
    _done: int = 0  # steps of the rounds before
    _last: int = 0  # steps so far

    def make(self, seeds: Sequence[int], settings: Repulsion, more: Sequence[int] = ()) -> tuple[Tensor, Run]:
        """As many candidates as seeds: pictures (n, 3, h, w), and what the strategy noted.

        more: seeds of further ones that start, and of which some may be kept instead.
        """
        plan, n = self.plan, len(seeds)
        seeds = [*seeds, *more]
        arguments = plan.arguments(seeds)
        self._done, began = self._last, time.perf_counter()
        images, run, self.stopped = sample(
            plan.pipeline, plan.adapter, plan.strategy, settings, arguments, seeds,
            progress=plan.progress, on_step=self._on_step, n=n, words=plan.words, bank=self.bank,
        )  # fmt: skip
        self.seconds += time.perf_counter() - began
        return images, run

    def _on_step(self, step: int, steps: int) -> None:
        self._last = self._done + step
        if self.plan.on_step is not None:
            self.plan.on_step(self._last, self._done + steps)


def _first(rounds: _Rounds) -> Candidates:
    plan = rounds.plan
    n = len(plan.seeds)
    images, run = rounds.make(plan.seeds, plan.settings, plan.more(n))
    case = _case(plan, images, 0 < run.still < n)
    return Candidates(
        images, list(run.seeds), [_strength(plan.settings, i, run) for i in range(n)], run.still, case,
        judge(case, plan.checks), run.contextual_vendi, rounds.seconds, stopped=rounds.stopped,
    )  # fmt: skip


def _case(plan: Plan, images: Tensor, first_is_plain: bool) -> Case:
    size = images.shape[3], images.shape[2]  # pipelines round
    source = to_tensor(plan.request.image.resize(size, Image.Resampling.LANCZOS))  # (1, 3, h, w)
    mask = None if plan.request.mask is None else shrink_mask(plan.request.mask, size)  # (h, w)
    floor = cache(lambda: round_trip(plan.pipeline, source, plan.adapter))
    return Case(source, images, mask, plan.request.instruction, first_is_plain, floor, plan.realign, plan.restore)


def _retry(rounds: _Rounds, bank: Bank, found: Candidates) -> Candidates:
    """Makes unfaithful candidates again, at most `plan.retries` times, each time from unused noise.

    The new ones are repelled from one another and from those that are kept, whose tokens `bank` has from when they were
    made, as strongly as these were: what is repelled less falls back on the typical answer. A strategy that noted none
    there gets the plain first candidates to run along instead, so that an anchor repels the new ones. An unfaithful
    anchor is made again as one, unmoved. A candidate that never passes is its last attempt, with its verdict.
    """
    plan, n = rounds.plan, len(found.seeds)
    bank.join(range(n))
    for number in range(1, plan.retries + 1):
        again = found.unfaithful
        if not again or found.stopped:
            break
        begin = plan.seeds[0] + plan.settings.oversample * n * number
        seeds, images, strengths = list(found.seeds), found.images.clone(), list(found.strengths)
        for i in again:
            seeds[i] = begin + i
        bank.leave(again)
        bank.noting = bank.noting and number < plan.retries
        along = range(0 if bank.noted or found.still == n else found.still)
        batch = sorted({*again, *along})
        settings = replace(plan.settings, anchor=plan.settings.anchor and batch[0] == 0)
        more = plan.more(len(again), begin) if bank.noted else ()
        made, run = rounds.make([seeds[i] for i in batch], settings, more)
        bank.join(batch)
        for row, i in enumerate(batch):
            if i in again:
                images[i], seeds[i], strengths[i] = made[row], run.seeds[row], _strength(settings, row, run)
        case = remade(found.case, images, again)
        found = replace(
            found, images=images, seeds=seeds, strengths=strengths, case=case, verdicts=judge(case, plan.checks),
            seconds=rounds.seconds, remade=[*found.remade, again], stopped=rounds.stopped,
        )  # fmt: skip
    return found


def _strength(settings: Repulsion, row: int, run: Run) -> float | None:
    """With which the particle of that row was moved."""
    if row < run.still:
        return 0.0
    return settings.strength if settings.eta is None else None
