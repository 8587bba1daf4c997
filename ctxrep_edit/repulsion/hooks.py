"""Attaches the repulsion to a pipeline's transformer blocks and takes it off again without a trace."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers.hooks import HookRegistry, ModelHook
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ctxrep_edit.errors import InputError, RepulsionError
from ctxrep_edit.plugins import catalog
from ctxrep_edit.plugins.adapter import Adapter, Order, Part
from ctxrep_edit.plugins.profiles import default_settings
from ctxrep_edit.repulsion.ascent import repel
from ctxrep_edit.repulsion.bank import Bank
from ctxrep_edit.repulsion.clock import Clock
from ctxrep_edit.settings import Repulsion

NAME = "ctxrep_edit"


class _Hooked:
    """A module with a hook of ours in its diffusers registry."""

    def __init__(self, module: nn.Module, hook: ModelHook) -> None:
        self.module = module
        self.registered = hasattr(module, "_diffusers_hook")
        self.registry = HookRegistry.check_if_exists_or_initialize(module)
        self.overridden = "forward" in self.registry._module_ref.__dict__
        self.registry.register_hook(hook, NAME)

    def free(self) -> None:
        """Removes the hook, and whatever only it brought along."""
        place = self.registry._hook_order.index(NAME) + 1
        outer = self.registry._fn_refs[place:][:1]  # what another hook around ours calls
        forwards = [ref.forward for ref in outer]
        self.registry.remove_hook(NAME, recurse=False)
        for ref, forward in zip(outer, forwards, strict=True):
            if ref.original_forward is not None:  # diffusers forgets that such a hook has a forward of its own
                ref.original_forward, ref.forward = ref.forward, forward
        if self.registry.hooks:
            return
        if not self.overridden:
            del self.registry._module_ref.forward
        if not self.registered:
            del self.module._diffusers_hook


@dataclass
class Attachment:
    """A repulsion at work on a pipeline. `vendi` holds (before, after) of each block in which particles repelled.

    before and after are the Vendi scores of the contextual tokens, averaged over groups: 1 to n, or to k + n where the
    `bank` has k candidates from which the n particles are repelled too.
    """

    adapter: Adapter
    settings: Repulsion
    particles: int
    instruction: Tensor | None
    clock: Clock
    bank: Bank | None = None
    vendi: list[tuple[float, float]] = field(default_factory=list)
    repelling: bool = False
    _handle: RemovableHandle | None = None
    _blocks: list[_Hooked] = field(default_factory=list)
    _masks: dict[Any, tuple[int, Tensor | None]] = field(default_factory=dict)
    _generated: int | None = None
    _text: int = 0

    @property
    def mean_vendi(self) -> tuple[float, float] | None:
        """(before, after) averaged over blocks and steps; None where nothing repelled."""
        if not self.vendi:
            return None
        before, after = zip(*self.vendi, strict=True)
        return sum(before) / len(before), sum(after) / len(after)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def begin(self, module: nn.Module, args: tuple[Any, ...], call: dict[str, Any]) -> None:
        """Notes what the transformer is about to be asked."""
        self.clock.tick(call)
        wanted = self.settings.guidance == "both" or self.clock.conditional
        self.repelling = self.clock.step < self.settings.steps and wanted
        self._generated = self.adapter.generated(call)
        if self.repelling and "joint" in self.adapter.streams.values():
            self._text = self.adapter.text_length(call)

    def move(self, text: Tensor, image: Tensor, parts: frozenset[Part], block: int) -> tuple[Tensor, Tensor]:
        """Repels the chosen parts of one block's output; text (batch, tokens, dim), image (batch, tokens, dim).

        block: its number among the hooked ones.
        """
        end, selected = self._selected(text, image, parts)
        whole = text if end <= text.shape[1] else torch.cat([text, image[:, : end - text.shape[1]]], 1)
        settings, share = self.settings, self.settings.share(self.clock.step)
        pieces, scores = [], []
        for group, (rows, moves) in enumerate(self._groups(len(whole))):
            if not moves:
                pieces.append(whole[rows])
                continue
            place = (self.clock.step, self.clock.calls, block, group)
            step = (repel if self.bank is None else functools.partial(self.bank.repel, place))(
                whole[rows],
                strength=settings.strength * share if settings.eta is None else None,
                eta=None if settings.eta is None else settings.eta * share,
                iterations=settings.iterations,
                objective=settings.objective,
                mask=selected,
                keep_norm=settings.keep_norm,
                fixed=int(settings.anchor),
            )
            pieces.append(step.tokens)
            scores.append((step.vendi_before, step.vendi_after))
        out = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        before, after = zip(*scores, strict=True)
        self.vendi.append((sum(before) / len(before), sum(after) / len(after)))
        length = text.shape[1]
        if whole is text:
            return out, image
        return out[:, :length], torch.cat([out[:, length:], image[:, out.shape[1] - length :]], 1)

    def _selected(self, text: Tensor, image: Tensor, parts: frozenset[Part]) -> tuple[int, Tensor | None]:
        """How many tokens of [text | image] to look at, and which of them repel, bool (tokens,); None: all.

        The same for every block and step, so it is worked out once.
        """
        key = (text.shape[1], image.shape[1], self._generated, parts)
        if key not in self._masks:
            mask = self._mask(text, image, parts)  # (tokens,)
            end = max(int(mask.nonzero().max()) + 1 if mask.any() else 0, text.shape[1])
            self._masks[key] = end, None if mask[:end].all() else mask[:end].to(text.device)
        return self._masks[key]

    def _mask(self, text: Tensor, image: Tensor, parts: frozenset[Part]) -> Tensor:
        words = torch.ones(text.shape[1], dtype=torch.bool) if self.instruction is None else self.instruction.cpu()
        if len(words) != text.shape[1]:
            raise RepulsionError(
                f"The instruction mask has {len(words)} tokens, but the transformer was given {text.shape[1]}: "
                "leave the mask out, or make it with the same max_sequence_length."
            )
        count = image.shape[1] if self._generated is None else self._generated
        made = torch.arange(image.shape[1]) < count
        pieces = {"instruction": words, "padding": ~words}, {"generated": made, "reference": ~made}
        halves = []
        for known, tokens in zip(pieces, (text, image), strict=True):
            half = torch.zeros(tokens.shape[1], dtype=torch.bool)
            for part, where in known.items():
                if part in parts:
                    half |= where
            halves.append(half)
        return torch.cat(halves)

    def _groups(self, batch: int) -> Iterator[tuple[slice, bool]]:
        """The rows of the batch in order: particles of one picture each, and whether they repel."""
        if batch % (self.particles * len(self.clock.parts)):
            raise RepulsionError(
                f"The transformer was given a batch of {batch}, which is no multiple of the {self.particles} particles "
                f"in {len(self.clock.parts)} part(s) it was attached for: attach it for the images per prompt."
            )
        size = batch // len(self.clock.parts)
        for i, part in enumerate(self.clock.parts):
            if part != "conditional" and self.settings.guidance != "both":
                yield slice(i * size, (i + 1) * size), False
                continue
            for start in range(i * size, (i + 1) * size, self.particles):
                yield slice(start, start + self.particles), True


class _Repel(ModelHook):  # type: ignore[misc]
    """On a block: moves the contextual tokens that it returns."""

    def __init__(self, run: Attachment, order: Order, parts: frozenset[Part], number: int) -> None:
        super().__init__()
        self.run, self.order, self.parts, self.number = run, order, parts, number

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def post_forward(self, module: nn.Module, output: Any) -> Any:
        if not self.run.repelling:
            return output
        if self.order == "joint":
            length = self.run._text
            return torch.cat(self.run.move(output[:, :length], output[:, length:], self.parts, self.number), 1)
        streams = dict(zip(self.order, output, strict=True))
        if streams["text"] is None:
            return output
        moved = self.run.move(streams["text"], streams["image"], self.parts, self.number)
        streams["text"], streams["image"] = moved
        return tuple(streams[name] for name in self.order)


def attach(
    pipeline: Any,
    settings: Repulsion | None = None,
    *,
    particles: int,
    instruction: Tensor | None = None,
    adapter: Adapter | None = None,
    bank: Bank | None = None,
) -> Attachment:
    """Hooks the repulsion into `pipeline`; `detach` takes it off.

    settings: None takes the defaults of the model or its family. particles: images that repel one another, >= 1; a
        batch is split into groups of that size, in order. instruction: bool (tokens,), the text tokens that carry the
        instruction; None: all. bank: finished candidates from which the particles of each group are repelled too, and
        which notes the tokens of these; see `Bank`.
    Raises UnknownPipeline, InputError for an unknown scope, RepulsionError where one is attached already.
    """
    adapter = adapter or catalog.adapter_for(pipeline)
    settings = settings or default_settings(pipeline)
    if particles < 1:
        raise InputError(f"particles is {particles}, but at least 1 is needed.")
    clock = Clock(adapter, functools.partial(adapter.guided, pipeline))
    run = Attachment(adapter, settings, particles, instruction, clock, bank)
    scope = adapter.scope(settings.scope)
    transformer = adapter.transformer(pipeline)
    registries: list[Any] = [getattr(module, "_diffusers_hook", None) for module in transformer.modules()]
    if any(NAME in registry.hooks for registry in registries if registry is not None):
        raise RepulsionError(
            "A repulsion is attached to this pipeline already: detach it first, or let the call that is editing with "
            "it in another thread finish."
        )
    if not settings.active:
        return run
    try:
        # A plain hook of torch: offloading puts its own wrapper around this module's forward anew after each run.
        run._handle = transformer.register_forward_pre_hook(run.begin, with_kwargs=True)
        for attribute, parts in scope.blocks.items():
            blocks = getattr(transformer, attribute)
            for block in (blocks[i] for i in scope.chosen(attribute, len(blocks))):
                hook = _Repel(run, adapter.streams[attribute], parts, len(run._blocks))
                run._blocks.append(_Hooked(block, hook))
    except BaseException:
        detach(run)
        raise
    return run


def detach(run: Attachment) -> None:
    """Takes the hooks off again; the modules are as they were before `attach`. Harmless when done twice."""
    if run._handle is not None:
        run._handle.remove()
    while run._blocks:
        run._blocks.pop().free()
    run.repelling = False


@contextmanager
def repelled(pipeline: Any, settings: Repulsion | None = None, **options: Any) -> Iterator[Attachment]:
    """`attach` on entering, `detach` on leaving, whatever happens in between.

    Raises RepulsionError if the block ended well and the hook never ran: a plain result is never passed off as a
    repelled one.
    """
    run = attach(pipeline, settings, **options)
    try:
        yield run
    finally:
        detach(run)
    if run.settings.active and not run.vendi:
        raise RepulsionError(
            "The repulsion hook never ran, so these edits are plain ones. The transformer was compiled as a whole, its "
            "blocks were skipped by a cache, or the pipeline was not called: attach before compiling, or turn the "
            "cache off."
        )
