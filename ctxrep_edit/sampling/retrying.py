"""Candidates made again: those that fail a check, and those that repeat another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ctxrep_edit.faithfulness.case import remade
from ctxrep_edit.sampling.candidates import Candidates
from ctxrep_edit.sampling.rounds import Rounds
from ctxrep_edit.sampling.run import strength_of


def made_again(rounds: Rounds, found: Candidates) -> Iterator[Candidates]:
    """Makes what the policy wants to have again, in as many rounds as it has, each time from unused noise.

    The new ones are repelled from one another and from those that are kept, whose tokens the bank has from when they
    were made, as strongly as these were: what is repelled less falls back on the typical answer. A strategy that noted
    none there gets the plain first candidates to run along instead, so that an anchor repels the new ones. An
    unfaithful anchor is made again as one, unmoved. A candidate that never passes is its last attempt, with its
    verdict. One that only repeats another stays, unless what was made in its place repeats none and passes. A round
    that is broken off, or that the caller stops, leaves all as it was.
    """
    plan, bank = rounds.plan, rounds.plan.bank
    for number in range(1, plan.policy.rounds + 1):
        again = found.again(plan.policy)
        if not again or found.stopped:
            break
        spare = [i for i in again if plan.policy.on_unfaithful != "retry" or i not in found.unfaithful]
        left = bank.leave(again)
        try:
            tried = _tried(rounds, found, again, number)
        except BaseException:
            bank.take_back(left)
            raise
        if tried.stopped:
            bank.take_back(left)
            yield replace(found, seconds=tried.seconds, stopped=True)
            return
        worse = {*tried.unfaithful, *tried.distances.repeats(last=again)} if spare else ()
        kept = [i for i in spare if i in worse]
        bank.take_back({i: left[i] for i in kept})
        found = _without(tried, kept, found)
        yield found


def _tried(rounds: Rounds, found: Candidates, again: list[int], number: int) -> Candidates:
    """What there is with new ones in the places of those. number: of the round, from 1."""
    plan, bank = rounds.plan, rounds.plan.bank
    begin = plan.begin(number)
    seeds, images, strengths = list(found.seeds), found.images.clone(), list(found.strengths)
    for i in again:
        seeds[i] = begin + i
    along = range(0 if bank.handed or found.still == len(seeds) else found.still)
    numbers = sorted({*again, *along})
    settings = replace(plan.settings, anchor=plan.settings.anchor and numbers[0] == 0)
    settings = settings if bank.handed else replace(settings, oversample=1)
    from_seeds, later = [seeds[i] for i in numbers], number < plan.policy.rounds
    for batch, made, run in rounds.make(numbers, from_seeds, settings, begin=begin, again=later):
        for row, i in enumerate(batch):
            if i in again:
                images[i], seeds[i] = made[row], run.seeds[row]
                strengths[i] = strength_of(settings, row, run)
    return replace(
        found, images=images, seeds=seeds, strengths=strengths, case=remade(found.case, images, again),
        seconds=rounds.seconds, remade=[*found.remade, again], stopped=rounds.stopped,
    )  # fmt: skip


def _without(tried: Candidates, places: list[int], before: Candidates) -> Candidates:
    """The new ones, but in those places what was there before."""
    if not places:
        return tried
    seeds, images, strengths = list(tried.seeds), tried.images.clone(), list(tried.strengths)
    for i in places:
        images[i], seeds[i], strengths[i] = before.images[i], before.seeds[i], before.strengths[i]
    return replace(
        tried, images=images, seeds=seeds, strengths=strengths, case=remade(tried.case, images, places),
        remade=[*before.remade, [i for i in tried.remade[-1] if i not in places]],
    )  # fmt: skip
