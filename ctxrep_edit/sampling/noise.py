"""Noise that lies between that of two seeds, or past one of them, for any pipeline that draws it by generators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ctxrep_edit.errors import ModelError

Noise: TypeAlias = "int | tuple[Noise, Noise, float]"
"""That of a seed, or what lies between two others: at 0 the first, at 1 the second, beyond 1 past it."""


class Drawn(TorchFunctionMode):
    """While it is entered, `torch.randn` draws a `Noise` for each generator that has one; all else is as ever.

    noises: by generator. So a pipeline needs to know nothing of it, and what it does to its noise before the first step
    is done to the mixed noise as well. Torch modes are the caller's thread's alone.
    """

    def __init__(self, noises: Mapping[torch.Generator, Noise]) -> None:
        super().__init__()
        self._sources = {id(generator): _source(noise) for generator, noise in noises.items()}
        self._drawn: set[int] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        source = self._sources.get(id(kwargs.get("generator")))
        if source is None or func is not torch.randn:
            return func(*args, **kwargs)
        self._drawn.add(id(kwargs["generator"]))
        return source(args, kwargs)

    def check(self, pipeline: Any) -> None:
        """Raises ModelError where, of some generator, nothing was drawn."""
        if len(self._drawn) < len(self._sources):
            raise ModelError(
                f"{type(pipeline).__name__} does not draw its noise by one generator for each candidate, so that noise "
                "between that of two edits cannot be had: take no like= and no walk with it."
            )


def _source(noise: Noise) -> Any:
    """What draws that noise again and again: (args, kwargs) of `torch.randn` to its tensor."""
    if isinstance(noise, int):
        generator = torch.Generator("cpu").manual_seed(noise)
        return lambda args, kwargs: torch.randn(*args, **{**kwargs, "generator": generator})
    one, other, share = _source(noise[0]), _source(noise[1]), noise[2]
    return lambda args, kwargs: turned(one(args, kwargs), other(args, kwargs), share)


def turned(one: Tensor, other: Tensor, share: float) -> Tensor:
    """On the arc from one to the other, of any shape alike: at 0 the one, at 1 the other; the norm goes along evenly.

    The straight way between two draws of noise leads through weaker noise, of which no model knows anything.
    """
    if share in (0, 1):
        return other if share else one
    x, y = one.double().flatten(), other.double().flatten()
    norms = x.norm(), y.norm()
    angle = torch.acos((x @ y / (norms[0] * norms[1])).clamp(-1, 1))
    if angle < 1e-6:
        return one
    way = torch.sin((1 - share) * angle) * x / norms[0] + torch.sin(share * angle) * y / norms[1]
    mixed: Tensor = way / torch.sin(angle) * ((1 - share) * norms[0] + share * norms[1])
    return mixed.view_as(one).to(one)


def plain(noise: Any) -> Noise | None:
    """From what JSON has made of it. Raises TypeError, ValueError."""
    if noise is None or isinstance(noise, int):
        return noise
    one, other, share = noise
    first, second = plain(one), plain(other)
    if first is None or second is None:
        raise ValueError("noise between nothing")
    return first, second, float(share)


def between(one: Noise, other: Noise, shares: Sequence[float]) -> list[Noise]:
    """Of each share; those of the ends as they are."""
    return [one if share == 0 else other if share == 1 else (one, other, float(share)) for share in shares]
