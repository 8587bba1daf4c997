"""Looks on while a pipeline runs: what each block returned before and after our hook, and what it was given.

From two runs that differ in one thing it can be told, without asking the adapter, which tokens are made from noise and
which rows of the batch follow the instruction.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ctxrep_edit.plugins.adapter import Adapter, Order

Streams = tuple[Tensor | None, ...]  # each (batch, tokens, dim); None for a text that is not returned
Place = tuple[str, int]  # the attribute that holds the blocks, and which of them


@dataclass
class Seen:
    """One call of one block.

    step: of the sampler, as the pipeline counts. call: of the transformer within the step. given: the tensors (batch,
    tokens, dim) among its arguments. raw, final: what it returned before and after hooks, in order. text: how many text
    tokens the adapter says a joint tensor has.
    """

    place: Place
    step: int
    call: int
    given: list[Tensor]
    raw: Streams
    final: Streams
    text: int

    def moved(self, order: Order) -> dict[str, Tensor]:
        """Which tokens a hook changed: bool (batch, tokens) by stream; empty where the block returned no text."""
        if any(stream is None for stream in self.raw):
            return {}
        changed = [(a != b).any(-1) for a, b in pairs(self.raw, self.final)]  # each (batch, tokens)
        if order == "joint":
            return {"text": changed[0][:, : self.text], "image": changed[0][:, self.text :]}
        return dict(zip(order, changed, strict=True))


@dataclass
class Watch:
    """What was seen of one run, in order. `on_step` is to be the run's. call: the keyword arguments with which the
    transformer was called first."""

    adapter: Adapter
    blocks: list[Seen] = field(default_factory=list)
    steps: int = 0
    call: Mapping[str, Any] = field(default_factory=dict)
    _call: int = -1
    _aside: bool = False  # whether the call under way is none of a timestep
    _text: int = 0
    _raw: Streams = ()

    def on_step(self, step: int, steps: int) -> None:
        self.steps, self._call = step, -1

    def begin(self, module: nn.Module, args: Any, call: Mapping[str, Any]) -> None:
        self._aside = not self.adapter.denoises(call)
        if self._aside:
            return
        self._call += 1
        self.call = self.call or dict(call)
        if "joint" in self.adapter.streams.values():
            self._text = self.adapter.text_length(call)

    def keep(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(forward)
        def kept(*args: Any, **options: Any) -> Any:
            out = forward(*args, **options)
            self._raw = _streams(out)
            return out

        return kept

    def note(self, place: Place, args: tuple[Any, ...], options: Mapping[str, Any], out: Any) -> None:
        if self._aside:
            return
        given = [x.clone() for x in (*args, *options.values()) if isinstance(x, Tensor) and x.ndim == 3]
        self.blocks.append(Seen(place, self.steps, self._call, given, self._raw, _streams(out), self._text))


@contextmanager
def watched(pipeline: Any, adapter: Adapter) -> Iterator[Watch]:
    """Watches every block that the adapter declares; afterwards the modules are as they were."""
    watch, transformer = Watch(adapter), adapter.transformer(pipeline)
    handles = [transformer.register_forward_pre_hook(watch.begin, with_kwargs=True)]
    forwards: list[tuple[nn.Module, Any]] = []
    try:
        for attribute in adapter.streams:
            for i, block in enumerate(getattr(transformer, attribute)):
                forwards.append((block, block.__dict__.get("forward")))
                block.forward = watch.keep(block.forward)

                def hook(module: Any, args: Any, options: Any, out: Any, place: Place = (attribute, i)) -> None:
                    watch.note(place, args, options, out)

                handles.append(block.register_forward_hook(hook, with_kwargs=True))
        yield watch
    finally:
        for handle in handles:
            handle.remove()
        for block, forward in forwards:
            del block.forward
            if forward is not None:
                block.forward = forward


def layout(adapter: Adapter, one: Watch, other: Watch) -> tuple[int, Tensor]:
    """How many text tokens there are, and which image tokens are generated, bool (tokens,): those that depend on the
    noise where the first block is given them. From two plain runs that differ in their seeds.

    Fails where the streams are not in the order that the adapter declares.
    """
    first, second = one.blocks[0], other.blocks[0]
    attribute = first.place[0]
    order = adapter.streams[attribute]
    shapes = [stream.shape for stream in first.raw if stream is not None]
    if len(set(shapes)) < len(shapes):
        pytest.fail(f"Text and image are both {shapes[0][1]} tokens long, so they cannot be told apart: change `size`.")
    noisy = [_differing(shape, first.given, second.given) for shape in shapes]  # per stream, bool (tokens,)
    if order == "joint":
        start = int(noisy[0].nonzero().min()) if noisy[0].any() else len(noisy[0])
        return start, noisy[0][start:]
    streams = dict(zip(order, noisy, strict=True))
    if streams["text"].any() or not streams["image"].any():
        pytest.fail(
            f"The blocks of {attribute} do not return {order}: what they return as {order[0]!r} is the other stream, "
            "going by what depends on the noise. Change their entry in `streams`."
        )
    return len(streams["text"]), streams["image"]


def telling(adapter: Adapter, one: Watch, other: Watch, text: int) -> Tensor:
    """Which of the `text` text tokens that the first block is given depend on the instruction: bool (text,). From two
    plain runs that differ in their instructions, which may become different numbers of tokens."""
    first, second = one.blocks[0], other.blocks[0]
    order = adapter.streams[first.place[0]]
    at = 0 if order == "joint" else order.index("text")
    raw, others = first.raw[at], second.raw[at]
    assert raw is not None
    assert others is not None
    alike = [
        (a, b)
        for a, b in zip(first.given, second.given, strict=True)
        if (a.shape, b.shape) == (raw.shape, others.shape)
    ]
    both = min(text, second.text if order == "joint" else others.shape[1])
    differ = torch.ones(text, dtype=torch.bool)
    differ[:both] = torch.stack([_apart(a, b)[:both] for a, b in alike]).any(0)
    return differ


def following(one: Watch, other: Watch) -> list[Tensor]:
    """Per call of the transformer in a step, which rows follow the instruction: bool (batch,). From two plain runs that
    differ in their instructions."""
    rows: dict[int, Tensor] = {}
    for a, b in zip(one.blocks, other.blocks, strict=True):
        if a.step == 0:
            rows.setdefault(a.call, rows_that_differ(a.raw, b.raw))  # the first block of each call
    return list(rows.values())


def pairs(one: Streams, other: Streams) -> list[tuple[Tensor, Tensor]]:
    """Stream by stream, those that both have."""
    return [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]


def rows_that_differ(one: Streams, other: Streams) -> Tensor:
    """bool (batch,); texts of different lengths differ in every row."""
    return torch.stack([_rows(a, b) for a, b in pairs(one, other)]).any(0)


def _rows(a: Tensor, b: Tensor) -> Tensor:
    return (a != b).flatten(1).any(1) if a.shape == b.shape else torch.ones(len(a), dtype=torch.bool)


def _apart(a: Tensor, b: Tensor) -> Tensor:
    """Which tokens (batch, tokens, dim), as far as both go, are others: bool (tokens,). Another number of them changes
    the last digits of all."""
    both = min(a.shape[1], b.shape[1])
    least = 0.0 if a.shape == b.shape else 1e-3 * float(a.abs().max())
    return (a[:, :both] - b[:, :both]).abs().amax((0, 2)) > least


def _differing(shape: torch.Size, one: list[Tensor], other: list[Tensor]) -> Tensor:
    alike = [(a, b) for a, b in zip(one, other, strict=True) if a.shape == shape]
    if not alike:
        pytest.fail(f"The first block returns {tuple(shape)} and is given nothing of that shape, so it cannot be told.")
    return torch.stack([(a != b).any(-1).any(0) for a, b in alike]).any(0)


def _streams(out: Any) -> Streams:
    streams = (out,) if isinstance(out, Tensor) else out
    return tuple(None if stream is None else stream.clone() for stream in streams)
