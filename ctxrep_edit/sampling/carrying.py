"""A plan carried out: candidates, a batch at a time, and some made again where that is wanted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import torch
from PIL import Image
from torch import Tensor

from ctxrep_edit.faithfulness.case import Case, remade
from ctxrep_edit.imaging import shrink_mask, to_tensor, to_tensors
from ctxrep_edit.plugins.contracts import Run
from ctxrep_edit.repulsion.ranks import Ranks
from ctxrep_edit.sampling.blame import blamed
from ctxrep_edit.sampling.candidates import Candidates
from ctxrep_edit.sampling.plan import Plan
from ctxrep_edit.sampling.repeats import layout
from ctxrep_edit.sampling.retrying import made_again
from ctxrep_edit.sampling.rounds import Rounds
from ctxrep_edit.sampling.run import round_trip, strength_of
from ctxrep_edit.sampling.shown import tokens_of


def carry_out(plan: Plan) -> Iterator[Candidates]:
    """Makes the candidates of a plan, in as many batches as memory asks for, and in as many rounds as its policy does:
    all that are there, after each batch and each round. The last is what came of the plan.

    Raises whatever the pipeline, the strategy or `on_step` raise; InputError for options that the pipeline cannot do
    with, and ModelError where memory does not suffice for one.
    """
    with blamed(plan.pipeline, plan.adapter, plan.options):
        yield from _made(plan)


def _made(plan: Plan) -> Iterator[Candidates]:
    for picture in plan.shown:
        plan.bank.kept[min([0, *plan.bank.kept]) - 1] = tokens_of(plan, picture)
    rounds = Rounds(plan)
    found = None
    for found in _first(rounds):
        yield found
    if plan.policy.rounds and found is not None:
        yield from made_again(rounds, found)


def _first(rounds: Rounds) -> Iterator[Candidates]:
    plan, found = rounds.plan, None
    n = len(plan.seeds)
    again = plan.policy.rounds > 0
    here = plan.here
    for batch, images, run in rounds.make(
        here, plan.seeds[here.start : here.stop], plan.settings, begin=plan.seeds[0], again=again
    ):
        strengths = [strength_of(plan.settings, row, run) for row in range(len(batch))]
        if plan.ranks is not None:
            batch, images, strengths = _from_all(plan.ranks, batch, images, strengths, run)
        if found is None:
            still = run.still if plan.settings.active else n
            case = _case(plan, images, 0 < still < n)
            found = Candidates(images, [], [], case, plan.checks, still, bank=plan.bank, known=_known(plan))
        else:
            images = torch.cat([found.images, images])
            found = replace(found, images=images, case=remade(found.case, images, batch))
        found = replace(
            found, seeds=[*found.seeds, *run.seeds], strengths=[*found.strengths, *strengths],
            contextual_vendi=run.contextual_vendi or found.contextual_vendi, seconds=rounds.seconds,
            batches=[*found.batches, batch], stopped=rounds.stopped,
        )  # fmt: skip
        yield found


def _known(plan: Plan) -> Tensor | None:
    """By what repeats of the pictures are told that are there already; None where nobody looks for any."""
    if not plan.known or plan.policy.distinct != "retry":
        return None
    return layout(to_tensors(plan.known, plan.request.size))


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
    worded = [plan.wordings.said(i) for i in range(len(plan.seeds))] if plan.wordings.apart else ()
    return Case(
        source, images, mask, plan.request.instruction, first_is_plain, floor, plan.realign, plan.restore, worded=worded
    )  # fmt: skip
