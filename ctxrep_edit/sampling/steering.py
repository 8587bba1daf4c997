"""Ways of moving tokens in the window that lean on edits which are there: between two of them, and like one.

Each is a strategy, and pure: where to the tokens go follows from those that the bank keeps. It goes through `repelled`
as the default does, with a `steer` that acts before the ascent.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ctxrep_edit.errors import InputError, RepulsionError
from ctxrep_edit.plugins.contracts import Run, Strategy
from ctxrep_edit.repulsion.attachment import Attachment, Steer
from ctxrep_edit.repulsion.bank import Memory, Place
from ctxrep_edit.repulsion.hooks import repelled
from ctxrep_edit.repulsion.tokens import Part
from ctxrep_edit.sampling.noise import Drawn, Noise, between
from ctxrep_edit.sampling.traces import Trace, left_trace
from ctxrep_edit.settings import is_number

if TYPE_CHECKING:
    from ctxrep_edit.results.edit import Edit


class Steering(Strategy):
    """A strategy that leans on edits.

    edits: those, of the picture, instruction, model and size of the run; the plan checks it. stated: what the recipe
    says of it.
    """

    repels = True
    edits: tuple[Edit, ...]
    stated: Mapping[str, Any]

    @abstractmethod
    def sample(self, run: Run) -> Tensor: ...

    @contextmanager
    def at_work(
        self, run: Run, steer: Steer, noises: Sequence[Noise], churn: Sequence[float], share: float
    ) -> Iterator[Attachment]:
        """In it, `run.call` makes candidates from these noises, one for each generator, of which these shares are drawn
        anew after the window, and whose tokens `steer` moves before they repel one another with this share of the
        strength, less than all of it without an anchor."""
        generators = run.arguments["generator"]
        drawn = Drawn(dict(zip(generators, noises, strict=True)))
        made_with = max(_trace(edit).churn for edit in self.edits)
        if made_with and not run.churn:
            raise InputError(
                "An edit that is leaned on was made with noise drawn anew after the window, but here none is: give "
                f"repulsion=Repulsion(churn={made_with:g}, ...), as it was made."
            )
        run.churn[:] = churn
        if run.bank is not None:
            run.bank.started([*zip(noises, churn, strict=True)])
        eta = None if run.settings.eta is None else run.settings.eta * share
        anchor = run.settings.anchor and share == 1
        settings = replace(run.settings, strength=run.settings.strength * share, eta=eta, anchor=anchor)
        with repelled(
            run.pipeline, settings, particles=run.n, instruction=run.instruction, adapter=run.adapter, bank=run.bank,
            steer=steer,
        ) as attachment, drawn:  # fmt: skip
            yield attachment
        drawn.check(run.pipeline)


class Between(Steering):
    """A walk through contextual space: tokens and noise of `one` moved towards those of `other`, and past them.

    shares: of the way, one for each candidate; 0 is `one`, 1 is `other`. first: seed of the run, which says which
    candidates a batch has. Tokens move in a straight line, noise on an arc; see Dahary et al. 2026, section 4.
    """

    name = "between"
    summary = "contextual tokens between those of two edits, or past them"

    def __init__(self, one: Edit, other: Edit, shares: Sequence[float], first: int) -> None:
        self.edits, self.shares, self.first = (one, other), shares, first
        self.stated = {"walk": {"seeds": [one.seed, other.seed], "shares": list(shares)}}

    def sample(self, run: Run) -> Tensor:
        one, other = (_trace(edit).memory for edit in self.edits)
        shares = [self.shares[seed - self.first] for seed in run.seeds]

        def steer(place: Place, parts: Sequence[Part]) -> list[Part]:
            start, end = _had(one, place, parts), _had(other, place, parts)  # (selected, width)
            t = torch.tensor(shares, dtype=torch.float64, device=start.device).view(-1, 1, 1)  # (n, 1, 1)
            way = torch.lerp(start.double(), end.double(), t)  # (n, selected, width)
            return _with(parts, way)

        one_noise, other_noise = (noise_of(edit) for edit in self.edits)
        start, end = (_trace(edit).churn for edit in self.edits)
        churn = [start + (end - start) * min(1.0, share) for share in shares]
        with self.at_work(run, steer, between(one_noise, other_noise, shares), churn, share=0.0):
            return run.call()


class Like(Steering):
    """Variations of one edit: tokens and noise of new candidates pulled towards its own, and repelled from one another.

    spread: of the way from the edit to what the candidate would be by itself, and of the strength: 0 to 1.
    """

    name = "like"
    summary = "contextual tokens pulled towards those of one edit, and repelled from one another"

    def __init__(self, edit: Edit, spread: float) -> None:
        self.edits, self.spread = (edit,), spread
        self.stated = {"like": edit.seed, "spread": spread}

    def sample(self, run: Run) -> Tensor:
        liked, spread = _trace(self.edits[0]).memory, self.spread
        noises: list[Noise] = []
        for generator in run.arguments["generator"]:
            noises += between(noise_of(self.edits[0]), generator.initial_seed(), [spread])

        def steer(place: Place, parts: Sequence[Part]) -> list[Part]:
            if spread == 1:
                return list(parts)
            target = _had(liked, place, parts)  # (selected, width)
            own = torch.cat([_wide(part.selected, target.shape[1]) for part in parts], 1)  # (n, selected, width)
            return _with(parts, torch.lerp(target.double().to(own.device), own.double(), spread))

        liked_churn = _trace(self.edits[0]).churn
        own = run.churn or [0.0] * len(noises)
        churn = [liked_churn + (each - liked_churn) * spread for each in own]
        with self.at_work(run, steer, noises, churn, share=spread) as attachment:
            images = run.call()
        run.still = int(run.settings.anchor and spread == 1)
        run.contextual_vendi = attachment.mean_vendi
        return images


def likened(strategy: Strategy, like: Any, spread: Any, group: Any) -> Strategy:
    """The strategy of a call with `like` and `spread`. Raises InputError."""
    if like is None:
        if spread is not None:
            raise InputError(f"spread is {spread!r}, but says how far from like= the edits may be: give like, too.")
        return strategy
    if not left_trace(like):
        raise InputError(f"like is {like!r}, but must be an edit of such a set: edits[2].")
    spread = 0.3 if spread is None else spread
    if not (is_number(spread) and 0 <= spread <= 1):
        raise InputError(f"spread is {spread!r}, but must be a number from 0, the edit itself, to 1, as without like.")
    if strategy.name != "contextual":
        raise InputError(f"like moves contextual tokens, but the strategy is {strategy.name}: leave one of them out.")
    if group is not None:
        raise InputError("Candidates that are spread over the ranks of a group are made without like: leave it out.")
    return Like(like, float(spread))


def noise_of(edit: Edit) -> Noise:
    """From which it started."""
    known = None if edit.trace is None else edit.trace.noise
    if known is None and edit.seed is None:
        raise InputError(f"Edit {edit.index + 1} was not made here, so that its noise is not known.")
    return edit.seed if known is None else known  # type: ignore[return-value]


def _trace(edit: Edit) -> Trace:
    assert edit.trace is not None  # the plan has checked it
    return edit.trace


def _had(memory: Memory, place: Place, parts: Sequence[Part]) -> Tensor:
    """The tokens that an edit had at that place: (selected, width)."""
    had = memory.get(place)
    selected = sum(part.length for part in parts)
    if had is None or had.shape[0] != selected:
        raise RepulsionError(
            f"After hooked block {place[2]} in step {place[0]} {selected} tokens are to be moved, but the edit that "
            f"they are moved to has {'none' if had is None else had.shape[0]} there: steer with the size, scope, "
            "window, guidance and instruction that it was made with."
        )
    return had.to(parts[0].tokens.device)


def _wide(tokens: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(tokens, (0, width - tokens.shape[-1]))


def _with(parts: Sequence[Part], selected: Tensor) -> list[Part]:
    """The parts with these tokens, (n, selected, width), in the place of those that take part."""
    moved, first = [], 0
    for part in parts:
        own = selected[:, first : first + part.length, : part.tokens.shape[2]]
        moved.append(replace(part, tokens=part.put(own.to(part.tokens))))
        first += part.length
    return moved
