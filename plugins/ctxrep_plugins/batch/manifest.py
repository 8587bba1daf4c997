"""From a manifest to rows, each one set that is wanted. What needs no model to be wrong is found here."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ctxrep_plugins.batch import tables
from ctxrep_plugins.batch.columns import COLUMNS, ID, NEEDED, PICTURES
from ctxrep_plugins.shared import file_digest

from ctxrep_edit import InputError, encode_json

SHOWN = 200
"""How many faults are listed."""


@dataclass(frozen=True)
class Row:
    """One set that is wanted.

    place: in the manifest, such as "row 3 (line 4)". options: of `diverse_edit`, without pictures, instruction, n and
    seed. stated: image, mask and instruction as the manifest has them. digest: of all that the set depends on.
    """

    place: str
    id: str
    image: Path
    mask: Path | None
    instruction: str
    n: int
    seed: int
    options: Mapping[str, Any]
    stated: Mapping[str, Any]
    digest: str = ""

    def marked(self, **beside: Any) -> Row:
        """With its digest: of the pictures' files, of what is asked, and of what is said `beside` for all rows."""
        pictures = {name: file_digest(file) for name, file in (("image", self.image), ("mask", self.mask)) if file}
        asked = dict(sorted({"instruction": self.instruction, "n": self.n, "seed": self.seed, **self.options}.items()))
        return replace(self, digest=digest({"pictures": pictures, "asked": asked, "beside": beside}))


@dataclass
class Faults:
    """What is wrong with a manifest."""

    file: Path
    found: list[str] = field(default_factory=list)

    def add(self, place: str, column: str | None, message: str) -> None:
        self.found.append(f"{place}{f', {column}' if column else ''}: {message}")

    def check(self) -> None:
        """Raises InputError with all of them, if there are any."""
        if not self.found:
            return
        more = len(self.found) - SHOWN
        lines = [*self.found[:SHOWN], *([f"and {more} more"] if more > 0 else [])]
        count = f"{len(self.found)} fault{'s' * (len(self.found) > 1)}"
        raise InputError("\n  ".join([f"{self.file} has {count}, so nothing was begun:", *lines]))


def read(file: Path, n: int, seed: int) -> list[Row]:
    """The rows of a manifest. n: of rows that state none; seed: what those without a seed derive theirs from.

    Raises InputError that lists all faults.
    """
    faults, rows = Faults(file), list[Row]()
    lines = tables.read(file)
    columns = dict.fromkeys(name for _, values in lines for name in values)
    for name in [name for name in columns if name not in COLUMNS]:
        near = difflib.get_close_matches(name, COLUMNS, 1)
        first = next(place for place, values in lines if name in values)
        faults.add(first, name, f"there is no such column: {f'did you mean {near[0]}?' if near else 'take it out.'}")
    for place, values in lines:
        before = len(faults.found)
        said = _values(place, values, faults)
        for name in NEEDED:
            if name not in said and not (values.get(name) and len(faults.found) > before):
                faults.add(place, name, "is missing: give one.")
        pictures = {name: _file(place, name, said[name], file, faults) for name in PICTURES if name in said}
        if len(faults.found) == before:
            rows.append(_row(place, said, pictures, n, seed))
    _check_ids(rows, faults)
    faults.check()
    return rows


def _values(place: str, values: Mapping[str, Any], faults: Faults) -> dict[str, Any]:
    """What a row gives, by column. An empty cell gives nothing."""
    said = {}
    for name, value in values.items():
        if name not in COLUMNS or value is None or value == "" or value != value:  # a NaN is a gap of some tables
            continue
        try:
            said[name] = COLUMNS[name](value)
        except ValueError as error:
            faults.add(place, name, f"is {_short(value)}, but must be {error}.")
    return said


def _file(place: str, name: str, given: str, manifest: Path, faults: Faults) -> Path:
    """Paths are relative to the manifest."""
    found = manifest.absolute().parent / given
    try:
        there = found.is_file()
    except OSError:
        there = False
    if not there:
        faults.add(place, name, f"there is no file {_short(given)} beside {manifest.name}.")
    return found


def _row(place: str, said: dict[str, Any], pictures: Mapping[str, Path], n: int, seed: int) -> Row:
    own = str(said.pop(ID, None) or _id(said))
    stated = {name: said.pop(name) for name in (*PICTURES, "instruction") if name in said}
    drawn = int(digest([seed, own])[:8], 16) // 2
    return Row(
        place, own, pictures["image"], pictures.get("mask"), stated["instruction"], said.pop("n", n),
        said.pop("seed", drawn), said, stated,
    )  # fmt: skip


def _id(said: Mapping[str, Any]) -> str:
    """Of a row that has none: the picture's name, and what makes it another for other wishes, wherever it stands."""
    stem = re.sub(r"[^A-Za-z0-9_]+", "-", Path(said["image"]).stem)[:40].strip("-")
    return f"{stem or 'picture'}-{digest(said)[:8]}"


def _check_ids(rows: Sequence[Row], faults: Faults) -> None:
    first: dict[str, Row] = {}
    for row in rows:
        other = first.setdefault(row.id.lower(), row)
        if other is not row:
            same = "is that of" if row.id == other.id else f"{row.id!r} differs in capitals only from that of"
            faults.add(row.place, ID, f"{same} {other.place}: give each an id of its own, or leave one out.")


def digest(value: Any) -> str:
    ordered = dict(sorted(value.items())) if isinstance(value, Mapping) else value
    return hashlib.sha256(encode_json(ordered, None).encode()).hexdigest()


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
