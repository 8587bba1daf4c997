"""From judged candidates to the set that the caller gets: pictures in the source's aspect, or restored onto it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageChops
from torch import Tensor

from ctxrep_edit.errors import Unfaithful
from ctxrep_edit.faithfulness.restoration import restore
from ctxrep_edit.imaging import Source, aspect, to_picture
from ctxrep_edit.results.edit import Edit
from ctxrep_edit.results.editset import EditSet
from ctxrep_edit.sampling.asked import OnUnfaithful
from ctxrep_edit.sampling.candidates import Candidates
from ctxrep_edit.sampling.traces import Trace, trace_of
from ctxrep_edit.sampling.varying import Wordings

if TYPE_CHECKING:
    from ctxrep_edit.results.continuing import Asked

NONE: Mapping[str, Any] = {}


def assemble(
    found: Candidates,
    source: Source,
    recipe: Mapping[str, Any],
    allowed: Image.Image | None = None,
    *,
    names: Sequence[str] | None = None,
    kind: Mapping[str, Any] = NONE,
    wordings: Wordings | None = None,
    asked: Asked | None = None,
) -> EditSet:
    """The candidates as edits.

    Edits have the model's resolution in the aspect of `source`; restored ones have its size, and its transparency
    outside the region. allowed: the caller's mask at that size, of mode L, to whose very border edits are restored.
    names: of pictures that were given, which have no seeds. kind: what a run must share to be repelled from these.
    wordings: what each was asked for; None: the instruction. asked: for what, so that more can be made.
    """
    case, size = found.case, (found.images.shape[3], found.images.shape[2])
    said = wordings or Wordings(case.instruction)
    edits = [
        edit_of(
            found, i, source, allowed, name=None if names is None else names[i], value=said.value(i),
            trace=None if found.bank is None else trace_of(found.bank, i, kind, said),
        )
        for i in range(len(found.seeds))
    ]  # fmt: skip
    recipe = {**recipe, "size": list(size), "rounds": len(found.remade), "remade": found.remade}
    recipe |= {"batches": found.batches} if found.batches else {}
    recipe |= {"stopped": True} if found.stopped else {}
    shown = source.image if _restored(found, allowed) else to_picture(case.source[0], aspect(size, source.image.size))
    return EditSet(
        case.instruction, shown, tuple(edits), recipe, found.contextual_vendi, found.seconds, credits=source.credits,
        asked=asked,
    )  # fmt: skip


def edit_of(
    found: Candidates,
    i: int,
    source: Source,
    allowed: Image.Image | None = None,
    *,
    name: str | None = None,
    value: str | None = None,
    trace: Trace | None = None,
) -> Edit:
    """Candidate number i as an edit; what `assemble` takes."""
    case, whole, verdicts = found.case, source.layer or source.image, found.verdicts[i]
    shape = aspect((found.images.shape[3], found.images.shape[2]), whole.size)
    looked = "evidence" in vars(case) or case.realign or case.restore
    picture, region = (
        to_picture((case.evidence.edits if case.realign or case.restore else found.images)[i], shape),
        None,
    )
    if looked:
        region = _enlarged(case.evidence.regions[i], shape)
    if _restored(found, allowed):
        region = _enlarged(case.evidence.regions[i], whole.size) if allowed is None else allowed
        where, seen = region, case.evidence.seen[i]
        if not seen.all():
            where = ImageChops.darker(region, _enlarged(seen, whole.size))
        picture = restore(whole, picture, where)
    seed = found.seeds[i] if name is None else None
    return Edit(picture, seed, i, verdicts, found.strengths[i], region, name or "", trace, value)


def _restored(found: Candidates, allowed: Image.Image | None) -> bool:
    if not found.case.restore:
        return False
    part = allowed is not None and allowed.getextrema()[0] == 0  # also where the model's size does not show it
    return part or found.case.evidence.where != "whole"


def settle(edits: EditSet, on_unfaithful: OnUnfaithful) -> EditSet:
    """Drops the unfaithful edits, or raises Unfaithful, where that is wanted."""
    bad = [edit for edit in edits if not edit.faithful]
    if not bad or on_unfaithful in ("flag", "retry"):
        return edits
    if on_unfaithful == "raise":
        why = "; ".join(f"edit {edit.index + 1}: {edit.verdict.reason}" for edit in bad if edit.verdict)
        raise Unfaithful(
            f"{len(bad)} of {len(edits)} edits did not keep what they should ({why}). They are in the error's "
            "edits; on_unfaithful='retry' makes them again, a mask says where the edit is allowed.",
            edits,
        )
    left = tuple(edit for edit in edits if edit.faithful)
    return replace(edits, edits=left, dropped=tuple(bad))


def _enlarged(where: Tensor, size: tuple[int, int]) -> Image.Image:
    """bool (h, w) as a picture of mode L and of (width, height) pixels."""
    return Image.fromarray(where.numpy()).convert("L").resize(size, Image.Resampling.NEAREST)
