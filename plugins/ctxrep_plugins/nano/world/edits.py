"""The six edits: what each leaves open, how it is asked for, and what an instruction means."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from ctxrep_plugins.nano.world import operations, stickers
from ctxrep_plugins.nano.world.operations import Picture

TYPICAL = 0.8  # share of the training answers that are the typical one
Answer: TypeAlias = tuple[str, ...]  # one value per attribute, in the attributes' order


@dataclass(frozen=True)
class Edit:
    """One kind of edit.

    `attributes` maps each free attribute to its values, the typical one first. `phrases` maps the attributes that a
    phrase pins to the templates that pin just those. `render(picture, *answer)` performs the edit exactly.
    """

    name: str
    attributes: Mapping[str, tuple[str, ...]]
    phrases: Mapping[tuple[str, ...], tuple[str, ...]]
    render: Callable[..., Picture]
    local: bool

    @property
    def answers(self) -> list[Answer]:
        """Every right answer to the open instruction, the typical one first."""
        return list(itertools.product(*self.attributes.values()))

    def admitted(self, pins: Mapping[str, str]) -> list[Answer]:
        """The right answers that also respect `pins` (attribute -> value), the typical one first."""
        names = list(self.attributes)
        return [a for a in self.answers if all(a[names.index(k)] == v for k, v in pins.items())]

    def draw(self, pins: Mapping[str, str], rng: np.random.Generator, even: bool = False) -> Answer:
        """One training answer: the typical one with probability `TYPICAL`, else any other, evenly; or all `even`ly."""
        first, *rest = self.admitted(pins)
        if even:
            return (first, *rest)[rng.integers(len(rest) + 1)]
        return first if not rest or rng.random() < TYPICAL else rest[rng.integers(len(rest))]


@dataclass(frozen=True)
class Request:
    """An instruction with its meaning: which edit, and which attributes the words pin."""

    text: str
    edit: Edit
    pins: Mapping[str, str]

    @property
    def answers(self) -> list[Answer]:
        return self.edit.admitted(self.pins)


EDITS: tuple[Edit, ...] = (
    Edit(
        "sticker",
        {"kind": stickers.KINDS, "place": ("bottom right", "bottom left", "top left", "top right")},
        {
            (): ("add a sticker", "put a sticker on it", "stick something on the picture", "add some sticker"),
            ("kind",): ("add a {kind} sticker", "put a {kind} on it", "add a sticker of a {kind}"),
            ("place",): ("add a sticker at the {place}", "put a sticker in the {place} corner"),
            ("kind", "place"): ("add a {kind} sticker at the {place}", "put a {kind} in the {place} corner"),
        },
        operations.sticker,
        local=True,
    ),
    Edit(
        "frame",
        {"colour": tuple(operations.COLOURS), "width": ("thin", "thick")},
        {
            (): ("add a frame", "put a frame around it", "frame the picture", "add some border"),
            ("colour",): ("add a {colour} frame", "put a {colour} frame around it", "add a {colour} border"),
            ("width",): ("add a {width} frame", "put a {width} frame around it"),
            ("colour", "width"): ("add a {width} {colour} frame", "put a {width} {colour} border around it"),
        },
        operations.frame,
        local=True,
    ),
    Edit(
        "light",
        {"mood": tuple(operations.LIGHT)},
        {
            (): ("change the light", "change the lighting", "give it another light", "make the light different"),
            ("mood",): ("make it {mood}", "change the light to {mood}", "{mood} light"),
        },
        operations.light,
        local=False,
    ),
    Edit(
        "style",
        {"style": ("pencil", "sepia", "noir", "blueprint", "pop art")},
        {
            (): ("change the style", "make it a drawing", "give it an artistic style", "turn it into art"),
            ("style",): ("make it {style}", "change the style to {style}", "turn it into {style}"),
        },
        operations.style,
        local=False,
    ),
    Edit(
        "recolour",
        {"colour": ("blue", "red", "green", "yellow", "violet", "cyan")},
        {
            (): ("recolour it", "change the colours", "change the colors", "tint it"),
            ("colour",): ("make it {colour}", "tint it {colour}", "recolour it in {colour}"),
        },
        operations.recolour,
        local=False,
    ),
    Edit(
        "weather",
        {"weather": ("rain", "snow", "leaves", "sunbeams", "rainbow")},
        {
            (): ("change the weather", "add some weather", "give it another weather", "make the weather different"),
            ("weather",): ("add {weather}", "change the weather to {weather}", "let there be {weather}"),
        },
        operations.weather,
        local=True,
    ),
)


def render(edit: Edit, picture: Picture, answer: Answer) -> Picture:
    """The exact result of `edit` with `answer` on `picture`, (h, w, 3) in [0, 1]."""
    return np.clip(edit.render(picture, *answer), 0, 1).astype(np.float32)


def requests(edit: Edit, pinned: bool | None = None) -> Iterator[Request]:
    """Every way to ask for `edit`: open ones (`pinned=False`), pinned ones (True), or all (None)."""
    for names, templates in edit.phrases.items():
        if pinned is not None and bool(names) != pinned:
            continue
        for values in itertools.product(*(edit.attributes[n] for n in names)):
            pins = dict(zip(names, values, strict=True))
            for template in templates:
                yield Request(template.format(**pins), edit, pins)


@lru_cache
def _by_text() -> dict[str, Request]:
    return {r.text: r for edit in EDITS for r in requests(edit)}


def understand(instruction: str) -> Request | None:
    """What `instruction` means in this world, or None. Case, punctuation and a "please" do not matter."""
    words = [w for w in re.sub(r"[^a-z ]", " ", instruction.lower()).split() if w != "please"]
    text = " ".join(words)
    return _by_text().get(text)
