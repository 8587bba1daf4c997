"""The contract between the core and a family of diffusers pipelines.

An adapter is mostly a declaration: which blocks return which token streams, and which named scopes repel which tokens.
All knowledge of a family lives in its adapter; the core knows token streams and nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ctxrep_edit.errors import InputError
from ctxrep_edit.settings import Repulsion

if TYPE_CHECKING:
    import torch
    from PIL import Image

    Words = torch.Tensor | Callable[[Mapping[str, Any]], torch.Tensor | None] | None
    """Which text tokens carry the instruction: what `Adapter.instruction` may give."""

Part = Literal["instruction", "padding", "generated", "reference"]
Order = tuple[Literal["text", "image"], Literal["text", "image"]] | Literal["joint"]


@dataclass(frozen=True)
class Scope:
    """Which parts of the token sequence are repelled, per list of blocks.

    blocks: from the transformer's attribute that holds the blocks to the parts repelled after each of them.
    summary: one line for people. within: from such an attribute to the share of its blocks that repel, as (first, last)
    with 0 <= first < last <= 1; all of them where nothing is said. iterations: M that goes with it, where the caller
    says none; None: the model's. pooled: whether of the image tokens that repel the mean alone does, so that all of
    them move alike; not, where tokens of one place repel those of the same place. channels: from such an attribute to
    the share of the text tokens' channels that repel, as (first, last), where the transformer writes over the others
    before the next block; all of them where nothing is said.
    """

    blocks: Mapping[str, frozenset[Part]]
    summary: str
    within: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    iterations: int | None = None
    pooled: bool = False
    channels: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def chosen(self, attribute: str, count: int) -> range:
        """Which of `count` blocks repel, at least one."""
        first, last = self.within.get(attribute, (0.0, 1.0))
        start = min(round(first * count), count - 1)
        return range(start, max(start + 1, round(last * count)))


@dataclass(frozen=True)
class Request:
    """What one call of the pipeline is to make: `len(generators)` edits of one picture, one generator each.

    references: further pictures that the instruction speaks of, in its order, each of its own size; never more than
    the adapter's `references` says that its pipelines take.
    """

    image: Image.Image
    instruction: str
    generators: Sequence[torch.Generator]
    size: tuple[int, int]  # (width, height) in pixels
    steps: int | None
    mask: Image.Image | None  # "L", white is edited, of the same size as the image
    references: Sequence[Image.Image] = ()


class Adapter(ABC):
    """Drives one family of diffusers pipelines. Subclass it, fill in the declarations, and register an instance."""

    name: ClassVar[str]
    pipelines: ClassVar[tuple[str, ...]]
    """Names of the pipeline classes this adapter drives."""
    streams: ClassVar[Mapping[str, Order]]
    """From the transformer's attribute that holds blocks to what each of them returns: the text and the image stream in
    that order, or "joint", one tensor of the text tokens and then the image tokens. A block that returns None for the
    text, as the last one of SD3 does, is left alone."""
    scopes: ClassVar[Mapping[str, Scope]]
    default: ClassVar[Repulsion]
    """The family's default settings; `default.scope` names its default scope."""
    guidance: ClassVar[Literal["calls"] | tuple[Literal["conditional", "unconditional"], ...]]
    """How classifier-free guidance runs: as two "calls" a step, the conditional one first, or as one call whose batch
    has these parts, all of one size, in this order: ("unconditional", "conditional") for [negative, positive]."""

    measured_on: ClassVar[str] = ""
    """What the default was measured on, such as the name of a model; empty where that was random weights alone."""
    draws_unasked: ClassVar[bool] = False
    """Whether its pipelines draw noise past the generators that they are given."""
    batch: ClassVar[int | None] = None
    """How many pictures one call of its pipelines makes at most; None: any number. Where it is 1, candidates are made
    one by one, each repelled from those before."""
    decodes_fewer: ClassVar[bool] = True
    """Whether its pipelines go on with fewer latents where a callback leaves fewer after the last step. Where not, all
    candidates of a pool are decoded."""
    references: ClassVar[int] = 0
    """How many pictures its pipelines take at most beside the one that is edited."""
    may_lack: ClassVar[Sequence[str]] = ()
    """Text encoders and tokenizers, by the pipeline's names for them, that it reads an instruction without."""

    def classes(self) -> Iterable[type]:
        """Pipeline classes that the plugin brings because diffusers has none of their names; may import torch."""
        return ()

    def transformer(self, pipeline: Any) -> torch.nn.Module:
        """The module whose blocks are hooked."""
        module: torch.nn.Module = pipeline.transformer
        return module

    def scope(self, name: str | None) -> Scope:
        """The scope called `name` (None: the default). Raises InputError with the names that exist."""
        chosen = name or self.default.scope or ""
        if not isinstance(chosen, str) or chosen not in self.scopes:
            known = ", ".join(self.scopes)
            raise InputError(f"Adapter {self.name} has no scope {chosen!r}: choose one of {known}.")
        return self.scopes[chosen]

    def latents(self, call: Mapping[str, Any]) -> torch.Tensor:
        """The latents that a call of the transformer is given, one row each of its batch; the same tensor object in
        both calls of a step where guidance is two calls."""
        latents: torch.Tensor = call["hidden_states"]
        return latents

    def timestep(self, call: Mapping[str, Any]) -> float:
        """The timestep that a call of the transformer is given; any unit, as long as it falls from step to step. Asked
        where the scheduler does not count its steps."""
        return float(call["timestep"].flatten()[0])

    def guided(self, pipeline: Any) -> bool:
        """Whether the batch of the run at hand has the parts that `guidance` lists; asked while the pipeline runs."""
        return bool(getattr(pipeline, "do_classifier_free_guidance", False))

    def text_length(self, call: Mapping[str, Any]) -> int:
        """How many text tokens the blocks are given; in the one tensor of "joint" blocks they come first."""
        return int(call["encoder_hidden_states"].shape[1])

    def image_length(self, call: Mapping[str, Any]) -> int | None:
        """How many image tokens the blocks are given; None where the call does not say."""
        latents = self.latents(call)
        return int(latents.shape[1]) if latents.ndim == 3 else None

    def generated(self, call: Mapping[str, Any]) -> int | torch.Tensor | None:
        """Which tokens of the image stream are the picture being made: how many, where they come first, else bool
        (tokens,); None: all of them. Asked where the transformer is given another number of tokens than before."""
        return None

    def denoises(self, call: Mapping[str, Any]) -> bool:
        """Whether a call of the transformer is one of a timestep; one that only fills a cache from the references is
        none, and is left alone."""
        return True

    def fills(self, call: Mapping[str, Any]) -> bool:
        """Whether a call of a timestep also fills a cache that later calls read. Such a call is made where its answer
        is known, too."""
        return False

    def rows(self, call: Mapping[str, Any], rows: Sequence[int], batch: int) -> dict[str, Any]:
        """The keyword arguments of a call of the transformer with these rows of its batch alone.

        Tensors and lists whose first axis is the batch lose the others, in dicts and in lists of tensors too. Position
        ids without a batch, (tokens, axes), stay. Override it where a family has more to mind.
        """
        return {
            name: value if name.endswith("_ids") and getattr(value, "ndim", 3) == 2 else _rows_of(value, rows, batch)
            for name, value in call.items()
        }

    def instruction(self, pipeline: Any, arguments: Mapping[str, Any]) -> Words:
        """Which text tokens carry the instruction: bool (tokens,), or None where that cannot be known (then all).

        arguments: of the pipeline's call. Where it takes more than these to know, such as how many vision tokens the
        pipeline made of a picture, give a function of the keyword arguments of the transformer's call instead. It is
        asked in the first step, and gives the same.
        """
        return None

    def check_call(self, pipeline: Any, arguments: Mapping[str, Any], options: Mapping[str, Any]) -> None:  # noqa: B027
        """Raises InputError where an option of the caller's has no effect because of another argument of the call, such
        as a negative prompt without guidance. options: those of the `arguments` that the caller gave."""

    def encode(self, pipeline: Any, pictures: torch.Tensor) -> torch.Tensor:
        """Pictures (n, 3, h, w) in [-1, 1] as latents of the autoencoder, in any form that `decode` takes, without
        noise. Override it with `decode` where the autoencoder takes anything else, such as videos."""
        vae = pipeline.vae
        encoded = vae.encode(pictures.to(pipeline._execution_device, vae.dtype))
        latents: torch.Tensor = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
        return latents

    def decode(self, pipeline: Any, latents: torch.Tensor) -> torch.Tensor:
        """What `encode` gave as pictures again: (n, 3, h, w), [-1, 1] and somewhat beyond."""
        pictures: torch.Tensor = pipeline.vae.decode(latents).sample
        return pictures

    def pack(self, pipeline: Any, latents: torch.Tensor) -> torch.Tensor:
        """What `encode` gave, (n, ...), as the transformer is given the latents of what is made: scaled, and
        (n, tokens, dim) or (n, channels, h, w). Other tokens or channels, if any, come after these in its calls.

        With it, candidates can be made unlike pictures that anybody made. Raises InputError where nobody says how.
        """
        raise InputError(
            f"The adapter {self.name} does not say how its pipelines pack a picture's latents, so that nothing can be "
            "made unlike a picture: name edits of a set, or give the adapter a `pack`."
        )

    def unpacked(self, pipeline: Any, latents: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Latents of the pipeline's loop, a row for each picture, as `decode` takes them: (n, ..., h, w).

        size: (width, height) of the pictures in pixels. Without it there are no previews of forming candidates.
        """
        raise NotImplementedError(f"The adapter {self.name} does not say how latents are unpacked.")

    @abstractmethod
    def size(self, pipeline: Any, width: int, height: int) -> tuple[int, int]:
        """(width, height) in pixels at which the pipeline edits a picture of that size."""

    @abstractmethod
    def arguments(self, pipeline: Any, request: Request) -> dict[str, Any]:
        """The keyword arguments with which `pipeline` carries out `request`."""


def _rows_of(value: Any, rows: Sequence[int], batch: int) -> Any:
    if hasattr(value, "ndim"):
        return value[list(rows)] if value.ndim and len(value) == batch else value
    if isinstance(value, Mapping):
        return {name: _rows_of(entry, rows, batch) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        if any(hasattr(entry, "ndim") for entry in value):
            return type(value)(_rows_of(entry, rows, batch) for entry in value)
        return type(value)(value[i] for i in rows) if len(value) == batch else value
    return value
