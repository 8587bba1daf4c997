"""What a set needs to be continued, as one file beside its pictures: contextual tokens, picture, and what was asked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ctxrep_edit.errors import InputError, OutputError
from ctxrep_edit.imaging import Source, read_source
from ctxrep_edit.results.continuing import Asked, gone
from ctxrep_edit.results.places import BANK, BANK_FORMAT
from ctxrep_edit.results.valid_json import encode_json
from ctxrep_edit.sampling.noise import Noise, plain
from ctxrep_edit.sampling.traces import Trace
from ctxrep_edit.settings import Repulsion

if TYPE_CHECKING:
    from ctxrep_edit.results.edit import Edit
    from ctxrep_edit.results.editset import EditSet

FORMAT = "7"
NAMED = ("strategy", "preserve")
"""Arguments that may be objects, and are saved by their names."""


def write_bank(edits: EditSet, file: Path) -> None:
    """Raises InputError for a set that cannot be continued, or not from a file; OutputError where it does not fit."""
    asked = edits.asked
    if asked is None:
        raise InputError(
            "This set has no bank to save: what it was asked for is not known, as its pictures were given or it was "
            "loaded without one."
        )
    arguments = dict(asked.arguments)
    source = arguments.pop("image")
    tensors = {"image": _bytes(source.layer or source.image)}
    mask = arguments.pop("mask", None)
    if mask is not None:
        tensors["mask"] = _bytes(mask)
    for number, picture in enumerate(arguments.pop("references", ())):
        tensors[f"reference/{number}"] = _bytes(picture.image)
    given = arguments.pop("pipeline", None) is not None
    for edit in edits:
        if edit.trace is None and asked.repels:
            raise InputError(
                f"Edit {edit.index + 1} has left no contextual tokens to save: they were too large to be kept. Make "
                "the set with bank='memory' or 'disk'."
            )
        if edit.trace is not None:
            tensors |= {f"{edit.index}/{_name(place)}": tokens for place, tokens in edit.trace.memory.items()}
            tensors |= {} if edit.trace.clean is None else {f"{edit.index}/clean": edit.trace.clean}
    stated = {
        "arguments": {name: _plain(name, value) for name, value in arguments.items()},
        "seeds": [edit.seed for edit in edits], "credits": dict(edits.credits), "next_seed": asked.next_seed,
        "repels": asked.repels, "given": given,
        "kinds": [dict(edit.trace.kind) if edit.trace else None for edit in edits],
        "noises": [edit.trace.noise if edit.trace else None for edit in edits],
        "churns": [edit.trace.churn if edit.trace else 0.0 for edit in edits],
    }  # fmt: skip
    file.touch()
    mode = file.stat().st_mode  # as other files get it; safetensors lets nobody else read
    try:
        save_file(_apart(tensors), file, {BANK_FORMAT: FORMAT, "stated": encode_json(stated, None)})
    except SafetensorError as error:
        raise OutputError(
            f"{BANK} cannot be written ({error}): take a folder on a disk with room, or leave bank=True out."
        ) from error
    file.chmod(mode)


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each with a storage of its own, as a file needs them; joined sets may hold one tensor twice, and on a GPU several
    share a piece of memory."""
    seen, apart = set[int](), {}
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage()
        own = storage.nbytes() == tensor.nbytes and storage.data_ptr() not in seen
        seen.add(storage.data_ptr())
        apart[name] = tensor if own else tensor.clone()
    return apart


def with_bank(edits: EditSet, file: Path) -> EditSet:
    """The set with what `write_bank` put beside it. Raises InputError for a file that is broken or of another kind."""
    try:
        with safe_open(file, "pt") as opened:
            about = opened.metadata() or {}
            if about.get(BANK_FORMAT) != FORMAT:
                raise InputError(
                    f"{file} is no bank of this version of ctxrep-edit: take it away to load the set without it."
                )
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (it is no mapping)
        stated = json.loads(about["stated"])
        if stated["seeds"] != [edit.seed for edit in edits]:
            raise InputError(f"{file} is the bank of another set: take it away to load the set without it.")
        arguments = _arguments(stated["arguments"])
        arguments["image"] = _source(tensors["image"], stated["credits"])
        if "mask" in tensors:
            arguments["mask"] = Image.fromarray(tensors["mask"].numpy())
        others = [name for name in tensors if name.startswith("reference/")]
        arguments["references"] = tuple(_source(tensors[name], {}) for name in sorted(others))
        if stated["given"]:
            arguments["pipeline"] = gone
        asked = Asked(arguments, stated["next_seed"], stated["repels"])
        own = [
            replace(edit, trace=_trace(edit, tensors, kind, plain(noise), float(churn)))
            for edit, kind, noise, churn in zip(edits, stated["kinds"], stated["noises"], stated["churns"], strict=True)
        ]
        return replace(edits, edits=tuple(own), asked=asked)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{file} cannot be read ({error}): take it away to load the set without its bank, or save the set anew."
        ) from error


def _trace(
    edit: Edit, tensors: Mapping[str, Tensor], kind: Mapping[str, Any], noise: Noise | None, churn: float
) -> Trace | None:
    begin = f"{edit.index}/"
    own = {name.removeprefix(begin): tensor for name, tensor in tensors.items() if name.startswith(begin)}
    clean = own.pop("clean", None)
    memory = {_place(name): tokens for name, tokens in own.items()}
    return Trace(memory, clean, kind, noise, churn) if memory else None


def _name(place: tuple[int, int, int, int]) -> str:
    return ".".join(map(str, place))


def _place(name: str) -> tuple[int, int, int, int]:
    step, call, block, group = map(int, name.split("."))
    return step, call, block, group


def _bytes(picture: Image.Image) -> Tensor:
    """uint8 (h, w) or (h, w, channels)."""
    return torch.from_numpy(np.array(picture))


def _source(pixels: Tensor, credits: Mapping[str, str]) -> Source:
    return replace(read_source(Image.fromarray(pixels.numpy())), credits=dict(credits))


def _plain(name: str, value: Any) -> Any:
    """An argument of `plan` as JSON takes it. Raises InputError for one that cannot be written."""
    if isinstance(value, Repulsion):
        return asdict(value)
    if name == "vary" and value is not None:
        return list(value)
    if name == "options":
        return {option: _plain(option, one) for option, one in value.items()}
    if name in NAMED:
        several = isinstance(value, Sequence) and not isinstance(value, str)
        return [_named(one) for one in value] if several else _named(value)
    if name in ("model", "dtype") and value is not None:
        return str(value)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise InputError(
        f"{name} is a {type(value).__name__}, which cannot be saved beside the pictures: leave bank=True out, or give "
        "the instruction in words."
    )


def _named(value: Any) -> str:
    return value if isinstance(value, str) else str(value.name)


def _arguments(stated: Mapping[str, Any]) -> dict[str, Any]:
    arguments = dict(stated)
    if arguments.get("repulsion") is not None:
        arguments["repulsion"] = Repulsion(**arguments["repulsion"])
    return arguments
