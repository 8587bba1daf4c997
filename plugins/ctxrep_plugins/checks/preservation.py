"""Whether the rest was kept: one number, and whatever else was found wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ctxrep_plugins.checks import objects, outside, tints, whole
from ctxrep_plugins.checks.verdicts import Measure, where

from ctxrep_edit import Case, Check, Verdict

if TYPE_CHECKING:
    from ctxrep_edit import Evidence

LPIPS_WHOLE = 0.80  # LPIPS to the source beyond which even an edit of the whole picture has lost it
ROUNDING = 1e-5  # equal pictures in one batch differ by this much
LOSS, TO_SOURCE = "loss outside the edit, in LPIPS", "LPIPS to the source"


class Preservation(Check):
    """What the rest loses, in LPIPS by Zhang et al., arXiv 1801.03924, beyond the autoencoder's round trip.

    `details["measures"]` has all that was measured, each with its bound. Of an edit of a part: the loss, what is
    visibly changed, the drift of colours; without a mask what was recoloured beside a replaced part, and in sets what
    only one edit has changed. Of the whole picture: LPIPS to the source, its edges, parts treated otherwise, noise.
    Of a part, where the plain edit does worse than a bound, what it loses is the bound for the others.
    """

    name = "preservation"
    summary = "what is lost outside the edit, in LPIPS; what is visibly changed there, moved, missing or stray"

    def prepare(self) -> None:
        from ctxrep_edit import ensure_weights

        ensure_weights()

    def verdicts(self, case: Case) -> Sequence[Verdict]:
        seen = case.evidence
        if seen.where == "whole":
            values = outside.lpips_to_source(seen)
            lost = [{"lpips": Measure(x, LPIPS_WHOLE, f"its LPIPS to the source is {x:.2f}")} for x in values]
            return [
                self._verdict(seen, i, TO_SOURCE, {**first, **more})
                for i, (first, more) in enumerate(zip(lost, whole.measures(seen), strict=True))
            ]
        found, tinted, others = outside.measures(seen), tints.measures(seen), objects.measures(seen)
        found = [None if own is None else {**own, **tint} for own, tint in zip(found, tinted, strict=True)]
        plain = found[0] if case.first_is_plain else None
        verdicts = []
        for i, (own, more) in enumerate(zip(found, others, strict=True)):
            if own is None:
                why = "nothing of the picture lies outside the edit"
                verdicts.append(Verdict.not_asked(LOSS, why, where(seen, i)))
                continue
            measured = _loosened(own, plain) if i and plain else own
            verdicts.append(self._verdict(seen, i, LOSS, {**measured, **more}))
        return verdicts

    def _verdict(self, seen: Evidence, i: int, measure: str, measured: Mapping[str, Measure]) -> Verdict:
        first = next(iter(measured.values()))
        faults = [one for one in measured.values() if not one.kept]
        if faults:
            reason = "; ".join(_said(one) for one in faults)
        elif measure == TO_SOURCE:
            reason = f"the whole picture was edited, and its layout kept; LPIPS to the source is {first.value:.2f}"
        else:
            reason = f"the rest was kept: it loses {first.value:.3f} LPIPS, at most {first.bound:.3f}"
        told = {name: one.to_dict() for name, one in measured.items()}
        details: dict[str, Any] = {**where(seen, i), "measures": told}
        return Verdict(not faults, measure, first.value, first.bound, reason, details, "damaged")


def _said(one: Measure) -> str:
    return f"{one.fault} ({one.value:.3g}, {'at least' if one.at_least else 'at most'} {one.bound:.3g})"


def _loosened(own: Mapping[str, Measure], plain: Mapping[str, Measure]) -> dict[str, Measure]:
    """With the plain edit's value as the bound, where that is worse."""
    return {
        name: replace(one, bound=max(one.bound, plain[name].value + ROUNDING)) if plain[name].value > one.bound else one
        for name, one in own.items()
    }
