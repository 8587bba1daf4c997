"""A plan carried out: candidates, judged, and the unfaithful ones made again where that is wanted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    many of the first are plain. case: as they were judged. seconds: of sampling. rounds: of retrying."""

    images: Tensor
    seeds: list[int]
    strengths: list[float | None]
    still: int
    case: Case
    verdicts: list[dict[str, Verdict]]
    contextual_vendi: tuple[float, float] | None = None
    seconds: float = 0.0
    rounds: int = 0

    @property
    def unfaithful(self) -> list[int]:
        return [i for i, said in enumerate(self.verdicts) if not all(verdict.kept for verdict in said.values())]


def carry_out(plan: Plan) -> Candidates:
    """Makes and judges the candidates of a plan, in as many rounds as its policy asks for.

    Raises whatever the pipeline, the strategy or `on_step` raise.
    """
    bank = Bank(noting=len(plan.seeds) > 1) if plan.on_unfaithful == "retry" else None
    found = _first(plan, bank)
    return found if bank is None else _retry(plan, found, bank)


def _make(plan: Plan, seeds: Sequence[int], settings: Repulsion, bank: Bank | None) -> tuple[Tensor, Run, float]:
    """One candidate per seed: pictures (n, 3, h, w), what the strategy noted, and the seconds it took."""
    arguments = plan.arguments(seeds)
    began = time.perf_counter()
    images, run = sample(
        plan.pipeline, plan.adapter, plan.strategy, settings, arguments, seeds,
        progress=plan.progress, on_step=plan.on_step, bank=bank,
    )  # fmt: skip
    return images, run, time.perf_counter() - began


def _first(plan: Plan, bank: Bank | None) -> Candidates:
    n, settings = len(plan.seeds), plan.settings
    images, run, seconds = _make(plan, plan.seeds, settings, bank)
    case = _case(plan, images, 0 < run.still < n)
    strengths = [_strength(settings, i, run) for i in range(n)]
    verdicts = judge(case, plan.checks)
    return Candidates(images, list(run.seeds), strengths, run.still, case, verdicts, run.contextual_vendi, seconds)


def _case(plan: Plan, images: Tensor, first_is_plain: bool) -> Case:
    size = images.shape[3], images.shape[2]  # pipelines round
    source = to_tensor(plan.request.image.resize(size, Image.Resampling.LANCZOS))  # (1, 3, h, w)
    mask = None if plan.request.mask is None else shrink_mask(plan.request.mask, size)  # (h, w)
    floor = cache(lambda: round_trip(plan.pipeline, source))
    return Case(source, images, mask, plan.request.instruction, first_is_plain, floor, plan.realign, plan.restore)


def _retry(plan: Plan, found: Candidates, bank: Bank) -> Candidates:
    """Makes unfaithful candidates again, at most `plan.retries` times, each time from unused noise, half as strongly.

    The new ones are repelled from one another and from those that are kept, whose tokens `bank` has from when they were
    made. A strategy that noted none there gets the plain first candidates to run along instead, so that an anchor
    repels the new ones. An unfaithful anchor is made again as one, unmoved. A candidate that never passes is its last
    attempt, with its verdict.
    """
    n, first = len(found.seeds), found.seeds[0]
    bank.join(range(n))
    for number in range(1, plan.retries + 1):
        again = found.unfaithful
        if not again:
            break
        seeds, images, strengths = list(found.seeds), found.images.clone(), list(found.strengths)
        for i in again:
            seeds[i] = first + n * number + i
        bank.leave(again)
        bank.noting = bank.noting and number < plan.retries
        along = range(0 if bank or found.still == n else found.still)
        batch = sorted({*again, *along})
        weaker = replace(_weaker(plan.settings, number), anchor=plan.settings.anchor and batch[0] == 0)
        made, run, seconds = _make(plan, [seeds[i] for i in batch], weaker, bank)
        bank.join(batch)
        for row, i in enumerate(batch):
            if i in again:
                images[i], seeds[i], strengths[i] = made[row], run.seeds[row], _strength(weaker, row, run)
        case = remade(found.case, images, again)
        found = replace(
            found, images=images, seeds=seeds, strengths=strengths, case=case, verdicts=judge(case, plan.checks),
            seconds=found.seconds + seconds, rounds=number,
        )  # fmt: skip
    return found


def _strength(settings: Repulsion, row: int, run: Run) -> float | None:
    """With which the particle of that row was moved."""
    if row < run.still:
        return 0.0
    return settings.strength if settings.eta is None else None


def _weaker(settings: Repulsion, number: int) -> Repulsion:
    if settings.eta is not None:
        return replace(settings, eta=settings.eta / 2**number)
    return replace(settings, strength=settings.strength / 2**number)
