"""A repulsion at work: what it does at each call of the transformer, and after each hooked block."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ctxrep_edit.errors import PluginError, RepulsionError
from ctxrep_edit.plugins.adapter import Adapter
from ctxrep_edit.plugins.adapter import Part as PartName
from ctxrep_edit.repulsion.ascent import Moved, repel_parts
from ctxrep_edit.repulsion.bank import Bank, Place
from ctxrep_edit.repulsion.clock import Clock, noise_levels
from ctxrep_edit.repulsion.holding import Holding, share_of
from ctxrep_edit.repulsion.ranks import Ranks, Shared
from ctxrep_edit.repulsion.registry import Hooked
from ctxrep_edit.repulsion.tokens import Part, pooled, positions, spread
from ctxrep_edit.repulsion.words import words_in
from ctxrep_edit.settings import Repulsion

if TYPE_CHECKING:
    from ctxrep_edit.plugins.adapter import Words

Chosen = list[tuple[int, slice | Tensor | None]]
"""The streams that repel, 0 for the text and 1 for the image, and where, as in `tokens.Part`."""
Steer = Callable[[Place, Sequence[Part]], list[Part]]
"""At a place, by stream, the tokens of one group of particles, and those from which they are to repel one another."""
IMAGE = 1


@dataclass
class Attachment:
    """A repulsion at work on a pipeline. `vendi` holds (before, after) of each block in which particles repelled.

    before and after are the Vendi scores of the contextual tokens, averaged over groups: 1 to n, or to k + n where the
    `bank` has k candidates from which the n particles are repelled too. ranks: over which the particles are spread.
    steer: moves tokens before they repel.
    """

    adapter: Adapter
    settings: Repulsion
    particles: int
    instruction: Words
    clock: Clock
    bank: Bank | None = None
    ranks: Ranks | None = None
    steer: Steer | None = None
    vendi: list[tuple[float, float]] = field(default_factory=list)
    repelling: bool = False
    _handles: list[RemovableHandle] = field(default_factory=list)
    _blocks: list[Hooked] = field(default_factory=list)
    _holding: Holding | None = None
    _masks: dict[Any, Chosen] = field(default_factory=dict)
    _generated: int | Tensor | None = None
    _words: Tensor | None = None
    _lengths: tuple[int | None, int | None] = (None, None)  # of text and image, as the transformer is given them
    _ran: int = 0  # hooked blocks, in the call under way
    _share: float = 0.0  # of the step size, in the call under way

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
        self.repelling = False
        if not self.adapter.denoises(call):
            return
        if self._holding is not None and not self._holding.asking:
            raise RepulsionError(
                "The transformer was compiled in place after a repulsion was attached to it, so that no answer of it "
                "can hold: attach it after compiling, or with Repulsion(hold=0)."
            )
        before = self.clock.step
        self.clock.tick(call)
        wanted = self.settings.guidance == "both" or self.clock.conditional
        self._share = self._share_of(self.clock.step)
        self.repelling = self._share > 0 and wanted
        if 0 <= before < self.clock.step - 1 and self._share_of(before + 1) > 0:
            raise RepulsionError(
                f"In step {before + 1} of the sampler the transformer was not called, so that nothing repelled there: "
                "turn off the cache that answered for it."
            )
        if not self.repelling:
            return
        told = "encoder_hidden_states" in call or "joint" in self.adapter.streams.values()
        text = self.adapter.text_length(call) if told else None
        lengths = text, self.adapter.image_length(call)
        if self.clock.step == 0 or before < 0 or lengths != self._lengths:  # asking makes the host wait for the device
            self._generated = self.adapter.generated(call)
            self._words = words_in(call, self.instruction)
            self._masks.clear()
        self._lengths = lengths
        self._ran = 0

    def _share_of(self, step: int) -> float:
        return share_of(self.settings, self.clock, step)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def end(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Raises RepulsionError where a call is through in which a hooked block did not run."""
        if self.repelling and self._ran != len(self._blocks):
            raise RepulsionError(
                f"In step {self.clock.step} of the sampler {self._ran} of {len(self._blocks)} hooked blocks ran, so "
                "that particles repelled less than asked for: turn off the cache or the skipping of layers, and "
                "enable neither while a repulsion is attached."
            )
        self.repelling = False

    @property
    def text_length(self) -> int:
        """Of the call under way, how many text tokens the blocks are given."""
        return self._lengths[0] or 0

    def count(self) -> None:
        """Counts a hooked block that ran."""
        self._ran += 1

    def move(self, text: Tensor, image: Tensor, parts: frozenset[PartName], block: int) -> tuple[Tensor, Tensor]:
        """Repels the chosen parts of one block's output; text (batch, tokens, dim), image (batch, tokens, dim).

        block: its number among the hooked ones.
        """
        streams = text, image
        chosen = self._selected(text, image, parts)
        if self.bank is not None and self.bank.expected and self.clock.step == block == 0:
            self.bank.foresee(*self._noted(text, image))
        pieces: list[list[Tensor]] = [[] for _ in chosen]
        scores = []
        for group, (rows, moves) in enumerate(self._groups(len(text))):
            tokens = [streams[i][rows] for i, _ in chosen]
            if moves:
                place = (self.clock.step, self.clock.call, block, group)
                wholes = [Part(some, where) for some, (_, where) in zip(tokens, chosen, strict=True)]
                tokens, *around = self._repelled(wholes, [i == IMAGE for i, _ in chosen], place)
                scores.append(around)
            for piece, some in zip(pieces, tokens, strict=True):
                piece.append(some)
        before, after = zip(*scores, strict=True)
        self.vendi.append((sum(before) / len(before), sum(after) / len(after)))
        out = list(streams)
        for piece, (i, _) in zip(pieces, chosen, strict=True):
            out[i] = piece[0] if len(piece) == 1 else torch.cat(piece)
        return out[0], out[1]

    def _noted(self, text: Tensor, image: Tensor) -> tuple[int, int]:
        """What the bank will note of one particle of the run under way, and of one in one call, in bytes."""
        tokens = 0
        for hooked in self._blocks:
            of_text, of_image = (int(mask.sum()) for mask in self._mask(text, image, hooked.hook.parts))
            pools = self.adapter.scope(self.settings.scope).pooled
            tokens += of_text + (min(of_image, 1) if pools else of_image)
        steps = self.settings.steps or sum(
            self._share_of(step) > 0 for step in range(len(noise_levels(self.clock.pipeline)) - 1)
        )
        groups = 1 if self.settings.guidance == "conditional" else 2
        in_call = tokens * text.shape[-1] * text.element_size() * groups
        return in_call * steps, in_call

    def _repelled(self, wholes: Sequence[Part], of_the_image: Sequence[bool], place: Place) -> Moved:
        """One group of particles, moved, by stream; where the scope pools, those of the image by their mean."""
        settings, bank = self.settings, self.bank
        first = bank is None or bank.turn is None or bank.turn.start == 0
        fixed = int(settings.anchor and first)
        pools = self.adapter.scope(settings.scope).pooled
        parts = [pooled(whole) if pools and image else whole for whole, image in zip(wholes, of_the_image, strict=True)]
        if self.ranks is not None:
            parts = [Shared(part.tokens, part.where, ranks=self.ranks) for part in parts]
        given, parts = parts, parts if self.steer is None else self.steer(place, parts)
        moved, before, after = (repel_parts if bank is None else functools.partial(bank.repel, place))(
            parts,
            strength=settings.strength * self._share / len(self._blocks) if settings.eta is None else None,
            eta=None if settings.eta is None else settings.eta * self._share,
            iterations=settings.iterations,
            objective=settings.objective,
            keep_norm=settings.keep_norm,
            fixed=fixed,
        )
        for i, (whole, part) in enumerate(zip(wholes, given, strict=True)):
            if pools and of_the_image[i]:
                still = max(0, fixed - part.first) if self.ranks else fixed
                moved[i] = spread(whole, part, moved[i], keep_norm=settings.keep_norm, fixed=still)
        return moved, before, after

    def _selected(self, text: Tensor, image: Tensor, parts: frozenset[PartName]) -> Chosen:
        """What repels; the same for every block and step of a kind, so it is worked out once."""
        key = (text.shape[1], image.shape[1], parts)
        if key not in self._masks:
            self._check_lengths(text.shape[1], image.shape[1])
            masks = self._mask(text, image, parts)
            chosen = [(i, positions(mask.to(text.device))) for i, mask in enumerate(masks) if mask.any()]
            if not chosen:
                raise RepulsionError(
                    "No token repels: the scope takes none of those that the instruction mask leaves. Give another "
                    "mask, or another scope."
                )
            self._masks[key] = chosen
        return self._masks[key]

    def _check_lengths(self, text: int, image: int) -> None:
        """Raises RepulsionError where the blocks are given other tokens than the transformer."""
        for what, count, given in (("text", text, self._lengths[0]), ("image", image, self._lengths[1])):
            if given is not None and count != given:
                raise RepulsionError(
                    f"The transformer was given {given} {what} tokens, but its blocks have {count}: under context "
                    "parallelism each device has a part of them, and which would repel is not known. Edit on one "
                    "device, or let the adapter state text_length."
                )

    def _mask(self, text: Tensor, image: Tensor, parts: frozenset[PartName]) -> list[Tensor]:
        """Of either stream which tokens repel: bool (tokens,)."""
        words = torch.ones(text.shape[1], dtype=torch.bool, device="cpu") if self._words is None else self._words
        if len(words) != text.shape[1]:
            raise RepulsionError(
                f"The instruction mask has {len(words)} tokens, but the transformer was given {text.shape[1]}: "
                "leave the mask out, or make it with the same max_sequence_length."
            )
        made = self._made(image.shape[1])
        pieces = {"instruction": words, "padding": ~words}, {"generated": made, "reference": ~made}
        halves = []
        for known, tokens in zip(pieces, (text, image), strict=True):
            half = torch.zeros(tokens.shape[1], dtype=torch.bool, device="cpu")
            for part, where in known.items():
                if part in parts:
                    half |= where
            halves.append(half)
        return halves

    def _made(self, length: int) -> Tensor:
        """Which of the image tokens are the picture being made: bool (length,)."""
        made = self._generated
        if not isinstance(made, Tensor):
            return torch.arange(length, device="cpu") < (length if made is None else made)
        if made.dtype != torch.bool or made.shape != (length,):
            raise PluginError(
                f"What the adapter {self.adapter.name} gives as generated is {tuple(made.shape)} of {made.dtype}, but "
                f"must be a number, or bool ({length},): one for each token of the image stream."
            )
        return made.cpu()

    def _groups(self, batch: int) -> Iterator[tuple[slice, bool]]:
        """The rows of the batch in order: particles of one picture each, and whether they repel."""
        turn = None if self.bank is None else self.bank.turn
        particles = self.particles if turn is None else len(turn)
        if batch % (particles * len(self.clock.parts)):
            raise RepulsionError(
                f"The transformer was given a batch of {batch}, which is no multiple of the {particles} particles "
                f"in {len(self.clock.parts)} part(s) it was attached for: attach it for the images per prompt."
            )
        size = batch // len(self.clock.parts)
        for i, part in enumerate(self.clock.parts):
            if part != "conditional" and self.settings.guidance != "both":
                yield slice(i * size, (i + 1) * size), False
                continue
            for start in range(i * size, (i + 1) * size, particles):
                yield slice(start, start + particles), True
