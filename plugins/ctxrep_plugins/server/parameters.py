"""The parameters of an edit: every one is read, or refused by its name; none is ignored."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ctxrep_plugins.server.named import LEANS, Between, Like, Named, Unlike
from ctxrep_plugins.server.readers import Flag, Names, Number, Reader, Size, Text, Values, Whole, Word
from ctxrep_plugins.server.refusals import Refused

FORMATS = ("png", "jpeg", "webp")
FILES = ("image", "mask")
"""Parameters that are pictures."""


@dataclass(frozen=True)
class Limits:
    """Of one request. n: edits; steps: of the sampler; body: bytes; pixels and side: of a picture; seconds: that a
    client may take to send it."""

    n: int = 16
    steps: int = 200
    body: int = 64 * 2**20
    pixels: int = 64 * 10**6
    side: int = 16384
    seconds: float = 60.0


@dataclass(frozen=True)
class Keep:
    """How long ended jobs are kept: seconds since they were asked for, and bytes of all of them; None: for ever."""

    seconds: float | None = None
    bytes: int | None = None


@dataclass(frozen=True)
class Form:
    """How pictures are sent. size: (width, height), None as they were made; compression: 0 to 100."""

    format: str = "png"
    compression: int = 100
    opaque: bool = False
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Wanted:
    """What one request asks for, checked as far as it can be without the model.

    options: of `stream_edits`, but for the pictures. references: further pictures. previews: how many of each edit.
    named: edits of earlier sets, by the parameter that names them; places: where those are. walk: `count` and `beyond`
    of one between two of them. regions: whether they are in the answer. identifier: of the client's own user, given
    back.
    """

    prompt: str
    image: bytes
    mask: bytes | None
    n: int
    options: Mapping[str, Any]
    form: Form
    stream: bool = False
    identifier: str | None = None
    references: tuple[bytes, ...] = ()
    previews: int = 0
    named: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    places: Mapping[str, Sequence[Named]] = field(default_factory=dict)
    walk: Mapping[str, Any] | None = None
    regions: bool = False
    fields: Mapping[str, Any] = field(default_factory=dict)


def hosted(limits: Limits) -> dict[str, Reader]:
    """Parameters of the hosted API."""
    return {
        "prompt": Text(32000),
        "model": Text(200),
        "n": Whole(1, limits.n),
        "size": Size(limits.side),
        "quality": Word(("auto",), "The model has one quality; steps says how long it takes."),
        "background": Word(("auto", "opaque"), "Edits have the background of their source."),
        "output_format": Word(FORMATS),
        "output_compression": Whole(0, 100),
        "response_format": Word(("b64_json",), "Pictures come in the answer."),
        "stream": Flag(),
        "partial_images": Whole(0, 3),
        "user": Text(512),
        "safety_identifier": Text(512),
    }


def ours(limits: Limits) -> dict[str, Reader]:
    """Parameters of `diverse_edit`, which the `openai` client sends as its `extra_body`."""
    return {
        "seed": Whole(0, 2**63 - 1),
        "strength": Number(0, 1000, ("auto",)),
        "scope": Text(100),
        "window": Number(0.01, 1),
        "strategy": Text(100),
        "oversample": Whole(1, 8),
        "steps": Whole(1, limits.steps),
        "guidance_scale": Number(0, 100),
        "true_cfg_scale": Number(0, 100),
        "denoising_strength": Number(0, 1),
        "negative_prompt": Text(32000),
        "preserve": Names(("auto", "off")),
        "on_unfaithful": Word(("flag", "drop", "retry", "raise")),
        "distinct": Word(("count", "retry")),
        "retries": Whole(1, 8),
        "restore": Flag(),
        "realign": Flag(),
        "batch_size": Whole(1, limits.n),
        "vary": Values(limits.n),
        "unlike": Unlike(),
        "like": Like(),
        "spread": Number(0, 1),
        "between": Between(limits.n),
        "regions": Flag(),
    }


REFUSED = {
    "input_fidelity": "restore=true puts the source's own pixels back outside the edit, which is all there is.",
    "complexity": "The model does not plan.",
    "frame_count": "No animations are made.",
    "frame_duration_ms": "No animations are made.",
    "markup": "Say in the prompt what to change, and with mask where.",
    "svg": "No SVG is made.",
}
"""Parameters of the hosted API that mean nothing here, and what there is instead."""


def known(limits: Limits) -> dict[str, Reader]:
    return {**hosted(limits), **ours(limits)}


def wanted(fields: Mapping[str, Any], files: Mapping[str, Sequence[bytes]], model: str, limits: Limits) -> Wanted:
    """The request, read. fields: by name, None where null was given; files: pictures. Raises `Refused`."""
    readers = known(limits)
    given = {name: value for name, value in fields.items() if value is not None}
    for name in given:
        _check_name(name, readers)
    for name in ("prompt", "image"):
        if name not in (files if name in FILES else given):
            raise Refused(f"{name} is missing: give {name}.", name, code="missing_required_parameter")
    if len(files.get("mask", ())) > 1:
        raise Refused(f"mask has {len(files['mask'])} pictures: give one.", "mask")
    said = {name: readers[name](name, value) for name, value in given.items()}
    if said.get("model", model) != model:
        raise Refused(
            f"There is no model {said['model']!r} here: it is {model!r}.", "model", status=404, code="model_not_found"
        )
    if "retries" in said and "retry" not in (said.get("on_unfaithful"), said.get("distinct")):
        raise Refused(
            "retries is for on_unfaithful='retry' or distinct='retry', neither of which is asked for: leave it out, or "
            "ask for one.", "retries",
        )  # fmt: skip
    if said.get("partial_images") and not said.get("stream"):
        raise Refused(
            "partial_images are events of stream=true, which is not asked for: leave one out.", "partial_images"
        )
    own = {*ours(limits)} - {*LEANS, "regions"}
    named = {name: said[name] for name in LEANS if name in said}
    walk = _walk(said, files, own)
    options = {"preserve": "auto", **{name: value for name, value in said.items() if name in own}}
    image, *references = files["image"]
    return Wanted(
        said["prompt"], image, files["mask"][0] if "mask" in files else None,
        walk["count"] if walk else said.get("n", 1),
        options, _form(said), said.get("stream", False), said.get("safety_identifier") or said.get("user"),
        tuple(references), said.get("partial_images", 0), named, {}, walk, said.get("regions", False), said,
    )  # fmt: skip


def _check_name(name: str, readers: Mapping[str, Reader]) -> None:
    if name in readers:
        return
    if name in REFUSED:
        raise Refused(f"{name} is not possible here: leave it out. {REFUSED[name]}", name, code="unsupported_parameter")
    if name in FILES:
        raise Refused(f"{name} must be the picture itself: a file, or a data: URL in JSON.", name)
    name = name[:60]
    near = difflib.get_close_matches(name, readers, 1)
    hint = f"did you mean {near[0]}?" if near else "leave it out."
    raise Refused(f"There is no parameter {name!r}: {hint}", name, code="unknown_parameter")


def _walk(
    said: Mapping[str, Any], files: Mapping[str, Sequence[bytes]], own: Collection[str]
) -> Mapping[str, Any] | None:
    """What of a walk is asked for beside its ends. Raises `Refused` for what it cannot have, as it goes by its set."""
    if "spread" in said and "like" not in said:
        raise Refused("spread says how far from like the edits may be, which is not given: give like, too.", "spread")
    if "between" not in said:
        return None
    others = [name for name in said if name in own or name in ("unlike", "like", "partial_images", "n")]
    others += ["mask"] * ("mask" in files) + ["image"] * (len(files["image"]) > 1)
    if others:
        what = "give one picture" if others[0] == "image" else f"leave {others[0]} out"
        how = "count says how many edits there are" if others[0] == "n" else "a walk goes by what its set was asked for"
        raise Refused(f"With between, {how}: {what}.", others[0])
    (walk,) = said["between"]
    return {"count": walk["count"], "beyond": walk["beyond"]}


def _form(said: Mapping[str, Any]) -> Form:
    form = said.get("output_format", "png")
    if form == "png" and said.get("output_compression", 100) != 100:
        raise Refused(
            "output_compression is for jpeg and webp, but output_format is png, which loses nothing: leave one out.",
            "output_compression",
        )
    opaque = said.get("background") == "opaque" or form == "jpeg"
    return Form(form, said.get("output_compression", 100), opaque, said.get("size"))
