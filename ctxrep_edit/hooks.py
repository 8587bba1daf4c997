"""Attaches the repulsion to a pipeline's transformer blocks and takes it off again without a trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers.hooks import HookRegistry, ModelHook
from torch import Tensor, nn

from ctxrep_edit import plugins
from ctxrep_edit.adapter import Adapter, Part, Stream
from ctxrep_edit.errors import InputError, RepulsionError
from ctxrep_edit.repulsion import repel
from ctxrep_edit.settings import Repulsion

NAME = "ctxrep_edit"


@dataclass
class Attachment:
    """A repulsion at work on a pipeline. `vendi` holds (before, after) of each block in which particles repelled.

    before and after are the Vendi scores of the contextual tokens, 1 to n, averaged over groups.
    """

    adapter: Adapter
    settings: Repulsion
    particles: int
    instruction: Tensor | None
    modules: list[nn.Module] = field(default_factory=list)
    vendi: list[tuple[float, float]] = field(default_factory=list)
    step: int = -1
    repelling: bool = False
    _timestep: float | None = None
    _calls: int = 0
    _generated: int | None = None

    def begin(self, call: dict[str, Any]) -> None:
        """Notes what the transformer is about to be asked: timesteps fall, so a lower one is the next step and a
        higher one the start of another run."""
        timestep = self.adapter.timestep(call)
        if self._timestep is None or timestep > self._timestep:
            self.step, self._calls = 0, 0
        elif timestep < self._timestep:
            self.step, self._calls = self.step + 1, 0
        self._timestep = timestep
        self._calls += 1
        second = self.adapter.guidance == "calls" and self._calls > 1
        wanted = self.settings.guidance == "both" or not second
        self.repelling = self.step < self.settings.steps and wanted
        self._generated = self.adapter.generated(call)

    def end(self) -> None:
        self.repelling = False

    def move(self, text: Tensor, image: Tensor, parts: frozenset[Part]) -> tuple[Tensor, Tensor]:
        """Repels the chosen parts of one block's output; text (batch, tokens, dim), image (batch, tokens, dim)."""
        mask = self._mask(text, image, parts)  # (tokens,) over [text | image]
        end = int(mask.nonzero().max()) + 1 if mask.any() else 0
        whole = text if end <= text.shape[1] else torch.cat([text, image[:, : end - text.shape[1]]], 1)
        selected: Tensor | None = mask[: whole.shape[1]]
        selected = None if selected is None or bool(selected.all()) else selected.to(whole.device)
        first, last = self._rows(len(whole))
        moved, scores = [whole[:first]], []
        for start in range(first, last, self.particles):
            step = repel(
                whole[start : start + self.particles],
                strength=self.settings.strength if self.settings.eta is None else None,
                eta=self.settings.eta,
                iterations=self.settings.iterations,
                objective=self.settings.objective,
                mask=selected,
                keep_norm=self.settings.keep_norm,
                fixed=int(self.settings.anchor),
            )
            moved.append(step.tokens)
            scores.append((step.vendi_before, step.vendi_after))
        moved.append(whole[last:])
        out = torch.cat(moved)
        before, after = zip(*scores, strict=True)
        self.vendi.append((sum(before) / len(before), sum(after) / len(after)))
        length = text.shape[1]
        if whole is text:
            return out, image
        return out[:, :length], torch.cat([out[:, length:], image[:, out.shape[1] - length :]], 1)

    def _mask(self, text: Tensor, image: Tensor, parts: frozenset[Part]) -> Tensor:
        words = torch.ones(text.shape[1], dtype=torch.bool) if self.instruction is None else self.instruction
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

    def _rows(self, batch: int) -> tuple[int, int]:
        """The rows of the batch that repel: all, or the positive half of [negative, positive]."""
        halves = self.adapter.guidance == "batch" and batch > self.particles and not batch % (2 * self.particles)
        first = batch // 2 if halves and self.settings.guidance == "conditional" else 0
        if batch % self.particles:
            raise RepulsionError(
                f"The transformer was given a batch of {batch}, which is no multiple of the {self.particles} particles "
                "that the repulsion was attached for: attach it for the number of images per prompt."
            )
        return first, batch


class _Step(ModelHook):  # type: ignore[misc]
    """On the transformer: learns the step, so that nothing needs counting from outside."""

    def __init__(self, run: Attachment) -> None:
        super().__init__()
        self.run = run

    @torch.compiler.disable
    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        self.run.begin(kwargs)
        return args, kwargs

    @torch.compiler.disable
    def post_forward(self, module: nn.Module, output: Any) -> Any:
        self.run.end()
        return output


class _Repel(ModelHook):  # type: ignore[misc]
    """On a block: moves the contextual tokens that it returns."""

    def __init__(self, run: Attachment, order: tuple[Stream, Stream], parts: frozenset[Part]) -> None:
        super().__init__()
        self.run, self.order, self.parts = run, order, parts

    @torch.compiler.disable
    def post_forward(self, module: nn.Module, output: Any) -> Any:
        if not self.run.repelling:
            return output
        streams = dict(zip(self.order, output, strict=True))
        streams["text"], streams["image"] = self.run.move(streams["text"], streams["image"], self.parts)
        return tuple(streams[name] for name in self.order)


def attach(
    pipeline: Any,
    settings: Repulsion | None = None,
    *,
    particles: int,
    instruction: Tensor | None = None,
    adapter: Adapter | None = None,
) -> Attachment:
    """Hooks the repulsion into `pipeline`; `detach` takes it off.

    settings: None takes the adapter's defaults. particles: images that repel one another, >= 1; a batch is split into
    groups of that size, in order. instruction: bool (tokens,), the text tokens that carry the instruction; None: all.
    Raises UnknownPipeline, InputError for an unknown scope, RepulsionError where one is attached already.
    """
    adapter = adapter or plugins.adapter_for(pipeline)
    settings = settings or adapter.default
    if particles < 1:
        raise InputError(f"particles is {particles}, but at least 1 is needed.")
    run = Attachment(adapter, settings, particles, instruction)
    scope = adapter.scope(settings.scope)
    transformer = adapter.transformer(pipeline)
    if any(NAME in m._diffusers_hook.hooks for m in transformer.modules() if hasattr(m, "_diffusers_hook")):
        raise RepulsionError("A repulsion is attached to this pipeline already: detach it first.")
    if not settings.active:
        return run
    try:
        _hook(transformer, _Step(run), run)
        for attribute, parts in scope.blocks.items():
            for block in getattr(transformer, attribute):
                _hook(block, _Repel(run, adapter.streams[attribute], parts), run)
    except BaseException:
        detach(run)
        raise
    return run


def detach(run: Attachment) -> None:
    """Takes the hooks off again; the modules are as they were before `attach`. Harmless when done twice."""
    while run.modules:
        module = run.modules.pop()
        registry = module._diffusers_hook
        registry.remove_hook(NAME, recurse=False)
        if not registry.hooks and NAME in registry.__dict__:  # ours alone: leave no registry behind
            del module._diffusers_hook
            module.__dict__.pop("forward", None)


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


def _hook(module: nn.Module, hook: ModelHook, run: Attachment) -> None:
    ours = not hasattr(module, "_diffusers_hook") and "forward" not in module.__dict__
    registry = HookRegistry.check_if_exists_or_initialize(module)
    if ours:
        registry.__dict__[NAME] = True
    run.modules.append(module)
    registry.register_hook(hook, NAME)
