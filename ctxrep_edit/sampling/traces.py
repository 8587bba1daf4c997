"""What a finished candidate leaves behind, so that later ones can be made unlike it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ctxrep_edit.errors import InputError
from ctxrep_edit.repulsion.bank import Bank, Memory
from ctxrep_edit.sampling.noise import Noise
from ctxrep_edit.sampling.provenance import fingerprint

if TYPE_CHECKING:
    from ctxrep_edit.plugins.adapter import Adapter, Request
    from ctxrep_edit.sampling.varying import Wordings
    from ctxrep_edit.settings import Repulsion

LOOKED_AT = 16
"""Numbers of each tensor of a model by which its weights are told from others."""
COMPILED = "_orig_mod."  # in the names of what torch.compile wraps


@dataclass(frozen=True)
class Trace:
    """memory: the contextual tokens that a candidate had. clean: the clean latents, (numbers,), by which a pool is
    chosen from; None where none was. kind: what a run must share to be repelled from it, as JSON takes it. noise: what
    it started from; None where that is its seed. churn: the share of its noise that was drawn anew in each step after
    the window."""

    memory: Memory
    clean: Tensor | None
    kind: Mapping[str, Any]
    noise: Noise | None = None
    churn: float = 0.0

    @property
    def nbytes(self) -> int:
        """What its contextual tokens take."""
        return sum(tokens.nbytes for tokens in self.memory.values())


def left_trace(one: Any) -> bool:
    """Whether it is an edit, which says what it left, if only that it left nothing; arrays have a method `trace`."""
    return hasattr(one, "trace") and not callable(one.trace)


def kind_of(pipeline: Any, adapter: Adapter, request: Request, settings: Repulsion) -> dict[str, Any]:
    """What two runs must share so that the tokens of one mean the same in the other, under names for people."""
    return {
        "picture": fingerprint(request.image)["sha256"],
        "further pictures": [fingerprint(picture)["sha256"] for picture in request.references],
        "instruction": request.instruction,
        "size": list(request.size),
        "pipeline": type(pipeline).__name__,
        "weights": print_of(adapter.transformer(pipeline)),
        "scope": settings.scope,
        "window": settings.window if settings.steps is None else f"{settings.steps} steps",
        "hold": settings.hold,
        "steps": request.steps,
        "dtype": str(pipeline.dtype),
        "version of diffusers": version("diffusers"),
    }


def print_of(model: nn.Module) -> str:
    """By which weights are told from others, a LoRA's too: of the names and shapes of all tensors, and, where all are
    there, which they are not when offloaded to a disk, of some numbers of each; both as hexadecimal digits."""
    names, numbers, there = hashlib.sha256(), [], True
    for name, tensor in model.named_parameters():
        names.update(f"{name.replace(COMPILED, '')} {tuple(tensor.shape)} {tensor.dtype}".encode())
        there &= not tensor.is_meta
        if tensor.is_meta or not tensor.is_floating_point() or not tensor.is_contiguous():
            continue
        flat = tensor.detach().view(-1)
        step = max(1, len(flat) // LOOKED_AT)
        numbers.append(flat[::step][:LOOKED_AT].to(torch.float32))
    digest = hashlib.sha256()
    for device in {some.device for some in numbers}:
        digest.update(torch.cat([some for some in numbers if some.device == device]).cpu().numpy().tobytes())
    return f"{names.hexdigest()} {digest.hexdigest()}" if there else names.hexdigest()


def _alike(one: Any, other: Any, what: str) -> bool:
    """Whether what two kinds state is the same, as far as both state it."""
    if what != "weights" or None in (one, other):
        return bool(one == other)
    return all(mine == theirs for mine, theirs in zip(one.split(), other.split(), strict=False))


def trace_of(bank: Bank, i: int, kind: Mapping[str, Any], wordings: Wordings) -> Trace | None:
    """Of candidate i; None where the bank does not know it, and where no kind is stated."""
    if not kind or i not in bank.kept:
        return None
    own = {**kind, "instruction": wordings.said(i)}
    return Trace(bank.kept[i], bank.clean.get(i), own, *bank.noises.get(i, (None, 0.0)))


def bank_of(
    chosen: Sequence[tuple[str, Trace | None]], kind: Mapping[str, Any], wordings: Wordings, **options: Any
) -> Bank:
    """A bank that keeps them, under negative numbers. chosen: what to call each edit, and its trace. wordings: any of
    which they may have been asked for. options: of Bank.

    Raises InputError for one without a trace, and for one of another kind.
    """
    bank = Bank(worded=wordings.apart, **options)
    for number, (name, trace) in enumerate(chosen, -len(chosen)):
        if trace is None:
            raise InputError(
                f"{name} has left no contextual tokens to be moved by: it is plain, given, or of a set whose bank was "
                "too large to be kept or is not saved beside it. Make the set with bank='memory' or 'disk', and save "
                "it with bank=True; or name the picture, edit.image."
            )
        alike = {what: [value] for what, value in kind.items()} | {"instruction": wordings.all}
        stated = {what: trace.kind.get(what) for what in alike}
        other = [what for what, values in alike.items() if not any(_alike(stated[what], v, what) for v in values)]
        if other:
            raise InputError(
                f"{name} was made with another {', '.join(other)}, so that its contextual tokens mean nothing here: "
                "make new edits with what it was made with."
            )
        bank.kept[number] = trace.memory
        if trace.clean is not None:
            bank.clean[number] = trace.clean
    return bank
