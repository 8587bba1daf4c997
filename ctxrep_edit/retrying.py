"""Candidates, judged, and what becomes of the unfaithful ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from ctxrep_edit.bank import Bank
from ctxrep_edit.contracts import Case, Check, Run, Verdict
from ctxrep_edit.judging import judge
from ctxrep_edit.settings import Repulsion

OnUnfaithful = Literal["flag", "drop", "raise", "retry"]
Make = Callable[[Sequence[int], Repulsion], tuple[Tensor, Run]]
"""Makes one candidate per seed: pictures (n, 3, h, w), and what the strategy noted."""


@dataclass
class Candidates:
    """images: (n, 3, h, w) in [0, 1]; seeds, strengths (None: by the raw eta), verdicts: one per candidate. still: how
    many of the first are plain. case: as they were judged. rounds: of retrying."""

    images: Tensor
    seeds: list[int]
    strengths: list[float | None]
    still: int
    case: Case
    verdicts: list[dict[str, Verdict]]
    contextual_vendi: tuple[float, float] | None
    rounds: int = 0

    @property
    def unfaithful(self) -> list[int]:
        return [i for i, said in enumerate(self.verdicts) if not all(verdict.kept for verdict in said.values())]


def first_round(
    make: Make, seeds: Sequence[int], settings: Repulsion, case: Callable[[Tensor, bool], Case], checks: Sequence[Check]
) -> Candidates:
    """Makes and judges the candidates; `case(images, first_is_plain)` is what the checks are shown."""
    images, run = make(seeds, settings)
    moved = settings.strength if settings.eta is None else None
    shown = case(images, 0 < run.still < len(seeds))
    strengths = [0.0 if i < run.still else moved for i in range(len(seeds))]
    verdicts = judge(shown, checks)
    return Candidates(images, list(run.seeds), strengths, run.still, shown, verdicts, run.contextual_vendi)


def retry(
    found: Candidates,
    make: Make,
    bank: Bank,
    settings: Repulsion,
    case: Callable[[Tensor, bool], Case],
    checks: Sequence[Check],
    rounds: int,
) -> Candidates:
    """Makes unfaithful candidates again, at most `rounds` times, each time from unused noise and half as strongly.

    The new ones are repelled from one another and from those that are kept, whose tokens `bank` has from when `make`
    made them. A strategy that noted none there gets the plain first candidates to run along instead, so that an anchor
    repels the new ones. An unfaithful anchor is made again as one, unmoved. A candidate that never passes is its last
    attempt, with its verdict.
    """
    n, first = len(found.seeds), found.seeds[0]
    bank.join(range(n))
    for number in range(1, rounds + 1):
        again = found.unfaithful
        if not again:
            break
        seeds, images, strengths = list(found.seeds), found.images.clone(), list(found.strengths)
        for i in again:
            seeds[i] = first + n * number + i
        bank.leave(again)
        bank.noting = bank.noting and number < rounds
        along = range(0 if bank or found.still == n else found.still)
        batch = sorted({*again, *along})
        weaker = replace(_weaker(settings, number), anchor=settings.anchor and batch[0] == 0)
        made, run = make([seeds[i] for i in batch], weaker)
        bank.join(batch)
        for row, i in enumerate(batch):
            if i in again:
                images[i], seeds[i] = made[row], run.seeds[row]
                strengths[i] = 0.0 if row < run.still else weaker.strength if weaker.eta is None else None
        shown = case(images, 0 < found.still < n)
        found = replace(
            found, images=images, seeds=seeds, strengths=strengths, case=shown, verdicts=judge(shown, checks),
            rounds=number,
        )  # fmt: skip
    return found


def _weaker(settings: Repulsion, number: int) -> Repulsion:
    if settings.eta is not None:
        return replace(settings, eta=settings.eta / 2**number)
    return replace(settings, strength=settings.strength / 2**number)
