"""Attaches the repulsion to a pipeline's transformer blocks and takes it off again without a trace."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from diffusers.hooks import ModelHook
from torch import Tensor, nn

from ctxrep_edit.errors import InputError, RepulsionError
from ctxrep_edit.plugins import catalog
from ctxrep_edit.plugins.adapter import Adapter, Order, Part
from ctxrep_edit.plugins.profiles import settings_for
from ctxrep_edit.repulsion.attachment import Attachment, Steer
from ctxrep_edit.repulsion.bank import Bank
from ctxrep_edit.repulsion.clock import Clock, noise_levels
from ctxrep_edit.repulsion.holding import Holding
from ctxrep_edit.repulsion.ranks import Ranks
from ctxrep_edit.repulsion.registry import Hooked, check_beside, is_repelled
from ctxrep_edit.repulsion.turns import Turns
from ctxrep_edit.repulsion.words import checked_words
from ctxrep_edit.settings import Repulsion, is_count

if TYPE_CHECKING:
    from ctxrep_edit.plugins.adapter import Words

Share = tuple[float, float]
"""Where something begins and ends, in shares of the whole."""
_attaching = threading.Lock()


class _Repel(ModelHook):  # type: ignore[misc]
    """On a block: moves the contextual tokens that it returns."""

    def __init__(
        self, run: Attachment, order: Order, parts: frozenset[Part], number: int, channels: Share = (0.0, 1.0)
    ) -> None:
        super().__init__()
        self.run, self.order, self.parts, self.number, self.channels = run, order, parts, number, channels
        self.given: list[Any] = []

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        self.given = [*args, *kwargs.values()] if self.run.repelling else []
        return args, kwargs

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def post_forward(self, module: nn.Module, output: Any) -> Any:
        if not self.run.repelling:
            return output
        returned = [output] if self.order == "joint" else list(output)
        given, self.given = self.given, []
        if all(any(stream is other for other in given) for stream in returned if stream is not None):
            return output  # what went in comes out: something else answered for the block, and it counts as not run
        self.run.count()
        if self.order == "joint":
            length = self.run.text_length
            return torch.cat(self._moved(output[:, :length], output[:, length:]), 1)
        streams = dict(zip(self.order, output, strict=True))
        if streams["text"] is None:
            return output
        streams["text"], streams["image"] = self._moved(streams["text"], streams["image"])
        return tuple(streams[name] for name in self.order)

    def _moved(self, text: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """Both streams, with what repels of them moved."""
        first, last = (round(share * text.shape[-1]) for share in self.channels)
        moved, image = self.run.move(text[..., first:last], image, self.parts, self.number)
        if moved.shape == text.shape:
            return moved, image
        return torch.cat([text[..., :first], moved, text[..., last:]], -1), image


def attach(
    pipeline: Any,
    repulsion: Repulsion | None = None,
    *,
    particles: int,
    instruction: Words = None,
    adapter: Adapter | None = None,
    bank: Bank | None = None,
    batch_size: int | None = None,
    ranks: Ranks | None = None,
    steer: Steer | None = None,
) -> Attachment:
    """Hooks the repulsion into `pipeline`; `detach` takes it off.

    repulsion: what it leaves out, or None, takes the defaults of the model or its family; candidates are not
        oversampled. particles: images that repel
        one another, >= 1; a batch is split into groups of that size, in order. instruction: which text
        tokens carry the instruction, as bool (tokens,) or as the adapter's `instruction` gives it; None: all. adapter:
        of the pipeline; None finds it. bank: finished candidates from which the particles of each group are repelled
        too, and which notes the tokens of these; see `Bank`. batch_size: how many particles pass through the
        transformer at a time, each repelled from those before; None: all. With it the batch is one group. ranks: of
        torch.distributed, over which the particles that repel one another are spread, `particles` of them here; not
        with a bank or a batch_size. steer: moves the tokens of each group before they repel, also with strength 0:
        given the place (step, call, block, group) and, by stream, the tokens in scope, it returns the same with others.
    Raises UnknownPipeline, InputError for an unknown scope or an instruction that is no mask, RepulsionError where one
    is attached already or beside a cache or context parallelism.
    """
    adapter = adapter or catalog.adapter_for(pipeline)
    if not isinstance(repulsion, Repulsion | None):
        raise InputError(f"repulsion is {repulsion!r}, but must be a Repulsion: Repulsion(scope=..., strength=...).")
    settings = settings_for(pipeline, repulsion or Repulsion(), adapter)
    if repulsion is not None and (repulsion.oversample or 1) > 1 and bank is None:
        raise InputError(
            f"oversample is {repulsion.oversample}, but here nothing starts or chooses candidates: leave it to "
            "diverse_edit, or give particles for all that you start."
        )
    if repulsion is not None and repulsion.churn:
        raise InputError(
            f"churn is {repulsion.churn}, but here the scheduler is left alone: leave it to diverse_edit, or take a "
            "scheduler of your own with stochastic_sampling."
        )
    if not is_count(particles):
        raise InputError(f"particles is {particles!r}, but must be a whole number of images, at least 1.")
    if batch_size is not None and not (is_count(batch_size) and batch_size <= particles):
        raise InputError(f"batch_size is {batch_size!r}, but must be a whole number of the {particles} particles.")
    if ranks is not None and (bank is not None or batch_size is not None):
        raise InputError("Particles that are spread over ranks pass at once: leave bank and batch_size out.")
    if batch_size is not None:
        bank = Bank(noting=False) if bank is None else bank
    if bank is not None:
        bank.handed = True
    clock = Clock(adapter, pipeline)
    run = Attachment(adapter, settings, particles, checked_words(instruction), clock, bank, ranks, steer)
    transformer = adapter.transformer(pipeline)
    with _attaching:
        if is_repelled(transformer):
            raise RepulsionError(
                "A repulsion is attached to this pipeline already: detach it first, or let the call that is editing "
                "with it in another thread finish."
            )
        if settings.active or steer is not None:
            check_beside(transformer)
            if settings.steps is None:
                noise_levels(pipeline)
            try:
                if batch_size is not None and bank is not None:
                    _take_turns(run, transformer, batch_size, bank)
                _hook(run, transformer)
                if settings.hold:
                    run._holding = Holding(
                        transformer, adapter, Clock(adapter, pipeline), settings,
                        particles=particles if bank is None else None,  # with a bank the batch is one
                        anchor=bool(settings.anchor and (ranks is None or ranks.rank == 0)),
                    )  # fmt: skip
            except BaseException:
                detach(run)
                raise
    return run


def _take_turns(run: Attachment, transformer: nn.Module, size: int, bank: Bank) -> None:
    groups = [range(i, min(i + size, run.particles)) for i in range(0, run.particles, size)]

    def check(call: Mapping[str, Any]) -> None:
        batch = len(run.adapter.latents(call))
        if batch % run.particles:
            raise RepulsionError(
                f"The transformer was given a batch of {batch}, which is no multiple of the {run.particles} particles "
                "that pass in turns: attach it for the images per prompt."
            )

    run._handles += Turns(run.adapter, run.particles, lambda: groups, bank).hooked(transformer, before=check)


def _hook(run: Attachment, transformer: nn.Module) -> None:
    # Plain hooks of torch: offloading puts its own wrapper around this module's forward anew after each run.
    run._handles.append(transformer.register_forward_pre_hook(run.begin, with_kwargs=True))
    run._handles.append(transformer.register_forward_hook(run.end))
    scope = run.adapter.scope(run.settings.scope)
    for attribute, parts in scope.blocks.items():
        blocks = getattr(transformer, attribute)
        for block in (blocks[i] for i in scope.chosen(attribute, len(blocks))):
            channels = scope.channels.get(attribute, (0.0, 1.0))
            hook = _Repel(run, run.adapter.streams[attribute], parts, len(run._blocks), channels)
            run._blocks.append(Hooked(block, hook))


def detach(run: Attachment) -> None:
    """Takes the hooks off again; the modules are as they were before `attach`. Harmless when done twice."""
    if run._holding is not None:
        run._holding.free()
        run._holding = None
    while run._handles:
        run._handles.pop().remove()
    while run._blocks:
        run._blocks.pop().free()
    run.repelling = False


@contextmanager
def repelled(
    pipeline: Any,
    repulsion: Repulsion | None = None,
    *,
    particles: int,
    instruction: Words = None,
    adapter: Adapter | None = None,
    bank: Bank | None = None,
    batch_size: int | None = None,
    ranks: Ranks | None = None,
    steer: Steer | None = None,
) -> Iterator[Attachment]:
    """`attach` on entering, `detach` on leaving, whatever happens in between; the parameters are those of `attach`.

    Raises RepulsionError if the block ended well and the hook never ran: a plain result is never passed off as a
    repelled one.
    """
    run = attach(
        pipeline, repulsion, particles=particles, instruction=instruction, adapter=adapter, bank=bank,
        batch_size=batch_size, ranks=ranks, steer=steer,
    )  # fmt: skip
    try:
        yield run
    finally:
        detach(run)
    passed = bank is not None and bank.passed
    if (run.settings.active or steer is not None) and not run.vendi and not passed:
        raise RepulsionError(
            "The repulsion hook never ran, so these edits are plain ones. The transformer was compiled as a whole, its "
            "blocks were skipped by a cache, or the pipeline was not called: attach before compiling, or turn the "
            "cache off."
        )
