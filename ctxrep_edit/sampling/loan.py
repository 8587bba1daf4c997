"""A pipeline on loan for one run: nobody else's meanwhile, and given back as it was found."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ctxrep_edit.errors import PipelineBusy
from ctxrep_edit.sampling.calling import with_bars

_lent: WeakSet[Any] = WeakSet()
_sliced: WeakKeyDictionary[Any, tuple[int, bool]] = WeakKeyDictionary()
_lending = threading.Lock()


@contextmanager
def at_work(pipeline: Any, transformer: nn.Module) -> Iterator[None]:
    """Takes a pipeline, and the transformer that it may share with others, for one run.

    Raises PipelineBusy where either is at work already.
    """
    things = (pipeline, transformer)
    with _lending:
        if any(thing in _lent for thing in things):
            raise PipelineBusy(
                f"{type(pipeline).__name__}, or another pipeline with its transformer, is at work in another call: one "
                "run at a time. Wait for that call, or give the other thread its own: copy.deepcopy(pipeline)."
            )
        _lent.update(things)
    try:
        yield
    finally:
        with _lending:
            _lent.difference_update(things)


@contextmanager
def one_by_one(pipeline: Any) -> Iterator[None]:
    """The autoencoder, where it can, takes pictures one by one, as its memory is what most runs die of; afterwards it
    is as it was. Several pipelines may share one."""
    vae: Any = getattr(pipeline, "vae", None)
    if not hasattr(vae, "use_slicing"):
        yield
        return
    with _lending:
        users, before = _sliced.get(vae, (0, vae.use_slicing))
        _sliced[vae] = users + 1, before
        vae.use_slicing = True
    try:
        yield
    finally:
        with _lending:
            users, before = _sliced.pop(vae)
            if users > 1:
                _sliced[vae] = users - 1, before
            else:
                vae.use_slicing = before


@contextmanager
def borrowed(pipeline: Any, progress: bool, what: str = "editing") -> Iterator[None]:
    """Lends the pipeline a scheduler of its own and our progress bar; gives back what it had, whatever happens.

    what: the bar says.

    After an exception it also resets what the pipeline itself resets at the end of a run only: caches, offloading.
    """
    scheduler = pipeline.scheduler
    own = copy.deepcopy(scheduler)
    bars = [(thing, getattr(thing, "_progress_bar_config", None)) for thing in with_bars(pipeline)]
    try:
        pipeline.scheduler = own
        for thing, bar in bars:
            thing.set_progress_bar_config(**{"desc": what, **(bar or {}), "disable": not progress})
        yield
    except BaseException:
        if hasattr(pipeline, "maybe_free_model_hooks"):  # a modular one has none of its own
            pipeline.maybe_free_model_hooks()
        raise
    finally:
        pipeline.scheduler = scheduler
        for thing, bar in bars:
            if bar is None:
                thing.__dict__.pop("_progress_bar_config", None)
            else:
                thing._progress_bar_config = bar


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Within it, what this thread draws without naming a generator comes from `seed`; torch's own stay untouched, and
    where a pipeline seeds them itself, also that of `device`, they are set back."""
    before = torch.get_rng_state()
    there = torch.cuda.get_rng_state(device) if device is not None and device.type == "cuda" else None
    try:
        with _Seeded(seed):
            yield
    finally:
        if not torch.equal(torch.get_rng_state(), before):
            torch.set_rng_state(before)
            if there is not None and device is not None:
                torch.cuda.set_rng_state(there, device)


class _Seeded(TorchFunctionMode):
    """Some pipelines draw past the generators that they are given."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.generator = torch.Generator("cpu").manual_seed(seed)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.randn, torch.rand) and kwargs.get("generator") is None:
            device = kwargs.pop("device", None)
            drawn: Tensor = func(*args, **{**kwargs, "generator": self.generator})
            return drawn if device is None else drawn.to(device)
        if func in (torch.randn_like, torch.rand_like):
            draw, like = torch.randn if func is torch.randn_like else torch.rand, args[0]
            made = draw(like.shape, generator=self.generator, dtype=kwargs.get("dtype") or like.dtype)
            return made.to(kwargs.get("device") or like.device)
        return func(*args, **kwargs)
