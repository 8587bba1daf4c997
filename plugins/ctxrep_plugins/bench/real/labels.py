"""A folder of labelled edits: its manifest, read and checked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from ctxrep_edit import InputError

MANIFEST = "manifest.json"
KINDS = ("local", "global", "background")
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Pair:
    """A source, its edit, and what somebody saw. Everything outside `boxes`, in shares of the sides, should be as it
    was; `kept` says whether it is. aspect_changed: None where the manifest does not say. group: one
    for all pairs of a source."""

    name: str
    source: Path
    edit: Path
    kind: str
    kept: bool
    boxes: tuple[Box, ...] = ()
    instruction: str = ""
    aspect_changed: bool | None = None
    group: str = ""
    model: str = ""

    def mask(self) -> Image.Image:
        """The boxes, white on black, of the source's size."""
        with Image.open(self.source) as picture:
            mask = Image.new("L", picture.size, 0)
        width, height = mask.size
        draw = ImageDraw.Draw(mask)
        for left, top, right, bottom in self.boxes:
            draw.rectangle((left * width, top * height, right * width - 1, bottom * height - 1), fill=255)
        return mask


def read_folder(folder: Path) -> list[Pair]:
    """The pairs of `folder`, in the manifest's order. Raises InputError for what is missing or not understood."""
    file = folder / MANIFEST
    try:
        entries = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}. Name a folder of labelled edits.") from error
    except ValueError as error:
        raise InputError(f"{file} is not JSON: {error}. Mend it, see docs/faithfulness.md.") from error
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{file} lists no pairs. It must be a list of objects, see docs/faithfulness.md.")
    return [_pair(folder, number, entry) for number, entry in enumerate(entries, 1)]


def _pair(folder: Path, number: int, entry: Any) -> Pair:
    what = f"pair {number} of {folder / MANIFEST}"
    if not isinstance(entry, Mapping):
        raise InputError(f"{what} is not an object. Give source, edit, kind and rest_kept of each.")
    if missing := [name for name in ("source", "edit", "kind", "rest_kept") if name not in entry]:
        raise InputError(f"{what} lacks {', '.join(missing)}. Give source, edit, kind and rest_kept of each.")
    if entry["kind"] not in KINDS:
        raise InputError(f"The kind of {what} is {entry['kind']!r}, but must be one of {', '.join(KINDS)}.")
    if entry["rest_kept"] not in ("yes", "no"):
        raise InputError(f"rest_kept of {what} is {entry['rest_kept']!r}, but must be 'yes' or 'no'.")
    files = [folder / str(entry[name]) for name in ("source", "edit")]
    for file in files:
        if not file.is_file():
            raise InputError(f"{what} names {file}, which is no file. Mend the name, or put the picture there.")
    return Pair(
        str(entry.get("id", number)), *files, entry["kind"], entry["rest_kept"] == "yes",
        tuple(_box(box, what) for box in entry.get("boxes") or ()), str(entry.get("instruction", "")),
        entry.get("aspect_changed"), str(entry.get("set", entry["source"])), str(entry.get("model", "")),
    )  # fmt: skip


def _box(box: Sequence[float], what: str) -> Box:
    try:
        left, top, right, bottom = (float(side) for side in box)
    except (TypeError, ValueError):
        left = top = right = bottom = -1.0
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise InputError(f"A box of {what} is {box!r}, but must be [left, top, right, bottom] in shares of the sides.")
    return left, top, right, bottom
