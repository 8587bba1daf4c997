"""A plan carried out: candidates, a batch at a time, and the unfaithful ones made again where that is wanted."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property

import torch
from PIL import Image
from torch import Tensor

from ctxrep_edit.errors import ModelError, PluginError
from ctxrep_edit.faithfulness.case import Case, remade
from ctxrep_edit.faithfulness.judgement import judge
from ctxrep_edit.imaging import aspect, shrink_mask, to_tensor
from ctxrep_edit.plugins.contracts import Check, Run, Verdict
from ctxrep_edit.repulsion.bank import Bank
from ctxrep_edit.repulsion.ranks import Ranks
from ctxrep_edit.sampling.batches import Batches, out_of_memory
from ctxrep_edit.sampling.forming import Foresight
from ctxrep_edit.sampling.plan import Plan
from ctxrep_edit.sampling.run import round_trip, sample
from ctxrep_edit.settings import Repulsion


@dataclass
class Candidates:
    """images: (n, 3, h, w) in [0, 1]; seeds, strengths (None: by the raw eta): one per candidate. case: to judge them
    by. checks: that do. contextual_vendi: of the last batch, with all that it was repelled from. seconds: of sampling.
    batches: which were made together at first. remade: which were made again, by round. stopped: whether the caller
    ended it, so that pictures are unfinished. bank: what they repel further ones by. still: how many of the first are
    plain."""

    images: Tensor
    seeds: list[int]
    strengths: list[float | None]
    case: Case
    checks: Sequence[Check]
    still: int = 0
    contextual_vendi: tuple[float, float] | None = None
    seconds: float = 0.0
    batches: list[list[int]] = field(default_factory=list)
    remade: list[list[int]] = field(default_factory=list)
    stopped: bool = False
    bank: Bank | None = None

    @cached_property
    def verdicts(self) -> list[dict[str, Verdict]]:
        """One for each candidate, beside the others that are there: judged when first asked for."""
        return judge(self.case, self.checks)

    @property
    def unfaithful(self) -> list[int]:
        return [i for i, said in enumerate(self.verdicts) if any(verdict.objects for verdict in said.values())]


def carry_out(plan: Plan) -> Iterator[Candidates]:
    """Makes the candidates of a plan, in as many batches as memory asks for, and in as many rounds as its policy does:
    all that are there, after each batch and each round. The last is what came of the plan.

    Raises whatever the pipeline, the strategy or `on_step` raise; ModelError where memory does not suffice for one.
    """
    rounds = _Rounds(plan)
    found = None
    for found in _first(rounds):
        yield found
    if plan.on_unfaithful == "retry" and found is not None:
        yield from _retry(rounds, found)


@dataclass
class _Rounds:
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

        settings: an anchor is in the first batch. begin: the seed from which the set counts, with those that start
        beside it. again: whether some of them may have to be made again.
        """
        todo = dict(zip(numbers, seeds, strict=True))
        while todo and not self.stopped:
            batch = [*todo][: self._sizes.next(len(todo))]
            self._left = -(-(len(todo) - len(batch)) // len(batch))
            self._prepare(settings, needed=again or self._left > 0)
            alone = settings.anchor and len(batch) == 1  # stays whatever starts beside it
            more = () if alone or settings.oversample == 1 else self.plan.beside(batch, begin)
            try:
                made = self._batch(batch, [todo[i] for i in batch], more, settings)
            except Exception as error:
                if not out_of_memory(error):
                    raise
                made = None  # so that nothing holds on to what ran out
            if made is None:
                if self.plan.together:
                    raise ModelError(f"{len(batch)} candidates at once ran out of memory: ask for fewer, or smaller.")
                self.plan.bank.drop()
                self._last = self._done
                self._sizes.halve(len(batch))
                continue
            if self._left and settings.active and not self.plan.bank.noted:
                raise PluginError(
                    f"The strategy {self.plan.strategy.name} does not hand run.bank to `repelled`, so that candidates "
                    f"know nothing of those of other batches: mend it, or take batch_size={len(self.plan.seeds)}."
                )
            self.plan.bank.join(batch)
            todo = {i: seed for i, seed in todo.items() if i not in batch}
            settings = replace(settings, anchor=False)
            yield batch, *made

    def _prepare(self, settings: Repulsion, needed: bool) -> None:
        """What the bank is to note of the batch at hand. needed: whether anything in this run will need it."""
        plan, bank = self.plan, self.plan.bank
        bank.noting = (
            plan.ranks is None and plan.strategy.repels and settings.active and (needed or plan.keep is not False)
        )
        bank.spare = not needed and plan.keep is None

    def _batch(
        self, numbers: Sequence[int], seeds: Sequence[int], more: Sequence[int], settings: Repulsion
    ) -> tuple[Tensor, Run]:
        plan, bank = self.plan, self.plan.bank
        arguments = plan.arguments([*seeds, *more])
        self._done, began = self._last, time.perf_counter()
        with self._sizes.measured(len(seeds)):
            images, run, self.stopped = sample(
                plan.pipeline, plan.adapter, plan.strategy, settings, arguments, [*seeds, *more],
                progress=plan.progress and self._title(numbers), on_step=self._on_step, n=len(seeds), words=plan.words,
                bank=bank if bank.noting or bank.kept else None, ranks=plan.ranks, foresight=self._foresight(numbers),
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


def _first(rounds: _Rounds) -> Iterator[Candidates]:
    plan, found = rounds.plan, None
    n = len(plan.seeds)
    again = plan.on_unfaithful == "retry"
    here = plan.here
    for batch, images, run in rounds.make(
        here, plan.seeds[here.start : here.stop], plan.settings, begin=plan.seeds[0], again=again
    ):
        strengths = [_strength(plan.settings, row, run) for row in range(len(batch))]
        if plan.ranks is not None:
            batch, images, strengths = _from_all(plan.ranks, batch, images, strengths, run)
        if found is None:
            still = run.still if plan.settings.active else n
            case = _case(plan, images, 0 < still < n)
            found = Candidates(images, [], [], case, plan.checks, still, bank=plan.bank)
        else:
            images = torch.cat([found.images, images])
            found = replace(found, images=images, case=remade(found.case, images, batch))
        found = replace(
            found, seeds=[*found.seeds, *run.seeds], strengths=[*found.strengths, *strengths],
            contextual_vendi=run.contextual_vendi, seconds=rounds.seconds, batches=[*found.batches, batch],
            stopped=rounds.stopped,
        )  # fmt: skip
        yield found


def _from_all(
    ranks: Ranks, batch: list[int], images: Tensor, strengths: list[float | None], run: Run
) -> tuple[list[int], Tensor, list[float | None]]:
    """What all ranks have made, in order, on each of them; what the strategy noted, too."""
    told = ranks.told((batch, images.numpy(), strengths, [*run.seeds], run.still))
    numbers, pictures, moved, seeds, still = zip(*told, strict=True)
    run.seeds, run.still = [seed for some in seeds for seed in some], sum(still)
    whole = torch.cat([torch.from_numpy(some) for some in pictures])  # (n, 3, h, w)
    return [i for some in numbers for i in some], whole, [one for some in moved for one in some]


def _case(plan: Plan, images: Tensor, first_is_plain: bool) -> Case:
    size = images.shape[3], images.shape[2]  # pipelines round
    source = to_tensor(plan.request.image.resize(size, Image.Resampling.LANCZOS))  # (1, 3, h, w)
    mask = None if plan.request.mask is None else shrink_mask(plan.request.mask, size)  # (h, w)
    floor = cache(lambda: round_trip(plan.pipeline, source, plan.adapter))
    return Case(source, images, mask, plan.request.instruction, first_is_plain, floor, plan.realign, plan.restore)


def _retry(rounds: _Rounds, found: Candidates) -> Iterator[Candidates]:
    """Makes unfaithful candidates again, at most `plan.retries` times, each time from unused noise.

    The new ones are repelled from one another and from those that are kept, whose tokens the bank has from when they
    were made, as strongly as these were: what is repelled less falls back on the typical answer. A strategy that noted
    none there gets the plain first candidates to run along instead, so that an anchor repels the new ones. An
    unfaithful anchor is made again as one, unmoved. A candidate that never passes is its last attempt, with its
    verdict.
    """
    plan, n, bank = rounds.plan, len(found.seeds), rounds.plan.bank
    for number in range(1, plan.retries + 1):
        again = found.unfaithful
        if not again or found.stopped:
            break
        begin = plan.seeds[0] + plan.settings.oversample * n * number
        seeds, images, strengths = list(found.seeds), found.images.clone(), list(found.strengths)
        for i in again:
            seeds[i] = begin + i
        bank.leave(again)
        along = range(0 if bank.noted or found.still == n else found.still)
        numbers = sorted({*again, *along})
        settings = replace(plan.settings, anchor=plan.settings.anchor and numbers[0] == 0)
        settings = settings if bank.noted else replace(settings, oversample=1)
        from_seeds, later = [seeds[i] for i in numbers], number < plan.retries
        for batch, made, run in rounds.make(numbers, from_seeds, settings, begin=begin, again=later):
            for row, i in enumerate(batch):
                if i in again:
                    images[i], seeds[i], strengths[i] = made[row], run.seeds[row], _strength(settings, row, run)
        found = replace(
            found, images=images, seeds=seeds, strengths=strengths, case=remade(found.case, images, again),
            seconds=rounds.seconds, remade=[*found.remade, again], stopped=rounds.stopped,
        )  # fmt: skip
        yield found


def _strength(settings: Repulsion, row: int, run: Run) -> float | None:
    """With which the particle of that row was moved."""
    if row < run.still:
        return 0.0
    return settings.strength if settings.eta is None else None
