"""The findings of `bench real` as numbers for JSON, and these as tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import mean, median
from typing import Any

from ctxrep_plugins.bench.real.measurement import Judged
from rich.table import Table

from ctxrep_edit import DEFAULT_CHECKS, EditSet, contact_sheet

Summary = dict[str, Any]
Share = dict[str, Any]


def summary(found: Sequence[Judged]) -> Summary:
    """Shares with their 95 % intervals (Wilson's), of each way of asking; and each pair's verdict."""
    stated: Summary = {"asked": [_asked(found, given) for given in ("no mask", "mask")]}
    alone = [one for one in found if one.given == "no mask" and one.by is not None]
    inside = [one.inside for one in alone if one.pair.kept and one.inside is not None]
    outside = [one.outside for one in alone if one.pair.kept and one.outside is not None]
    stated["told_apart"] = _share(one.told == one.pair.kind for one in alone if one.pair.kind in ("local", "global"))
    stated["aspects"] = _share(
        one.frame == one.pair.aspect_changed for one in alone if one.pair.aspect_changed is not None
    )
    stated["region_outside"] = median(outside) if outside else None
    stated["region_inside"] = median(inside) if inside else None
    stated["seconds"] = mean(one.seconds for one in alone) if alone else None
    stated["pairs"] = [
        {
            "id": one.pair.name, "given": one.given, "kept": one.pair.kept, "flagged": one.flagged, "by": one.by,
            "kind": one.pair.kind, "told": one.told, "reason": _reason(one), "group": one.pair.group,
            "model": one.pair.model, "measures": _measures(one),
        }
        for one in found
    ]  # fmt: skip
    return stated


def overall(stated: Summary) -> Table:
    table = Table(
        "asked", "kept, flagged all the same", "not kept, flagged", "nothing done, flagged", "refused",
        title="Flagged, with 95 % intervals", title_justify="left",
    )  # fmt: skip
    for row in stated["asked"]:
        told = (_told(row[name]) for name in ("kept", "not_kept", "empty"))
        table.add_row(row["given"], *told, str(row["refused"]))
    return table


def checks(stated: Summary) -> Table:
    table = Table(
        "check", "asked", "kept, flagged", "not kept, flagged", title="By each check alone", title_justify="left"
    )
    for row in stated["asked"]:
        for name, said in row["checks"].items():
            table.add_row(name, row["given"], _told(said["kept"]), _told(said["not_kept"]))
    return table


def rest(stated: Summary) -> str:
    """The other figures, a line each."""
    lines = [
        f"Local or whole told right: {_told(stated['told_apart'])}",
        f"Aspect told right: {_told(stated['aspects'])}",
    ]
    if stated["region_outside"] is not None:
        lines.append(
            f"Of what lies outside the boxes {stated['region_outside']:.3f} is taken into the region, of what changed "
            f"inside {stated['region_inside']:.3f} (medians over the kept ones)"
        )
    if stated["seconds"] is not None:
        lines.append(f"{stated['seconds']:.2f} seconds a picture")
    return "\n".join(lines)


def sheet(found: Sequence[Judged], most: int) -> Any:
    """The worst misses, those flagged wrongly by most checks first, as a picture; None where nothing was missed."""
    missed = [one for one in found if not one.right and isinstance(one.edits, EditSet)]
    worst = sorted(missed, key=lambda one: -len(one.by or ()))[:most]
    if not worst:
        return None
    return contact_sheet([one.edits.row(_heading(one)) for one in worst if one.edits is not None])


def _heading(one: Judged) -> str:
    label = "kept" if one.pair.kept else "not kept"
    said = f"flagged by {', '.join(one.by)}" if one.by else "not flagged"
    return f"{one.pair.name}, {one.given}: {label}, {said}. {_reason(one)}"


def _reason(one: Judged) -> str:
    verdict = one.edits[0].verdict if one.edits else None
    return verdict.reason if verdict else "refused"


def _measures(one: Judged) -> dict[str, float]:
    """What `preservation` measured."""
    verdict = one.edits[0].verdicts.get("preservation") if one.edits else None
    return {name: said["value"] for name, said in verdict.details.get("measures", {}).items()} if verdict else {}


def _asked(found: Sequence[Judged], given: str) -> Summary:
    some = [one for one in found if one.given == given]
    kept, lost = ([one for one in some if one.pair.kept == wanted] for wanted in (True, False))
    return {
        "given": given,
        "kept": _share(one.flagged for one in kept),
        "not_kept": _share(one.flagged for one in lost),
        "empty": _share(one.empty for one in some),
        "refused": sum(one.by is None for one in some),
        "checks": {
            name: {
                what: _share(name in (one.by or ()) for one in group)
                for what, group in (("kept", kept), ("not_kept", lost))
            }
            for name in DEFAULT_CHECKS
        },
    }


def _share(said: Iterable[bool]) -> Share:
    from scipy.stats import binomtest

    every = list(said)
    if not every:
        return {"share": None, "low": None, "high": None, "of": 0}
    ends = binomtest(sum(every), len(every)).proportion_ci(method="wilson")
    return {"share": sum(every) / len(every), "low": float(ends.low), "high": float(ends.high), "of": len(every)}


def _told(share: Share) -> str:
    if not share["of"]:
        return "-"
    return f"{share['share']:.2f} ({share['low']:.2f} to {share['high']:.2f}) of {share['of']}"
