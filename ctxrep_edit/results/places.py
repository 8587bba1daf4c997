"""Where the files of a set go: never over the picture that was edited, nor over what is not ours."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ctxrep_edit.errors import InputError, OutputError
from ctxrep_edit.imaging import read_image
from ctxrep_edit.results.png import bears_recipe
from ctxrep_edit.sampling.provenance import fingerprint

SIDECAR = "edits.json"
BANK = "bank.safetensors"
BANK_FORMAT = "ctxrep_edit_bank"
"""Under which a bank's file states its format."""
Files = Mapping[Path, Path]
"""From where each file goes, as a path within the folder, to where it was finished."""


@dataclass(frozen=True)
class Over:
    """The folder itself, over an earlier set of ours. source: fingerprint of the picture that was edited, or None."""

    source: Any = None

    def __call__(self, folder: Path, files: Files) -> Path:
        """Raises OutputError where something would be lost that is no earlier set's."""
        why = objection(folder, files)
        for file in (folder / name for name in (*files, *earlier(folder, files))):
            if why is None and self.source is not None and _shows(file, self.source):
                there = files.get(file.relative_to(folder))
                why = None if there and _shows(there, self.source) else f"{file} is the picture that was edited"
        if why is not None:
            raise OutputError(f"{why}, and is not replaced: name another folder.")
        return folder


@dataclass
class Numbered:
    """The folder itself if none of the files is there, else a new one in it: 2, 3, ...

    force: over an earlier set of ours instead. spared: files that nothing may replace, by whatever name. Afterwards
    folder: which it is; note: why it is another one, if it is; held: the empty file that keeps other processes out of
    a new one.
    """

    force: bool = False
    spared: Sequence[Path] = ()
    folder: Path = field(default=Path(), init=False)
    note: str = field(default="", init=False)
    held: Path | None = field(default=None, init=False)

    def __call__(self, folder: Path, files: Files) -> Path:
        self.note, self.held = "", None
        self.folder = self._choice(folder, files)
        return self.folder

    def _choice(self, folder: Path, files: Files) -> Path:
        there = (folder / name for name in (*files, *earlier(folder, files)))
        spared = next((file for file in there if any(same(file, other) for other in self.spared)), None)
        if self.force:
            why = f"{spared} is the picture or the mask" if spared else objection(folder, files)
            if why is None:
                return folder
            self.note = f"{why}, and is not replaced"
        choice, number = folder, 1
        while not _claimed(choice, files):
            self.note = self.note or f"{folder} holds files of these names already"
            number += 1
            choice = folder / str(number)
        self.held = choice / next(iter(files)) if files else None
        return choice


def objection(folder: Path, files: Files) -> str | None:
    """What speaks against writing the files there: a picture of ours, or our edits.json, would replace another's."""
    for name, finished in files.items():
        file = folder / name
        if os.path.lexists(file) and _ours(finished) and not _ours(file):
            return f"{file} is there already and not of an earlier set"
    return None


def earlier(folder: Path, files: Collection[Path]) -> list[Path]:
    """Pictures of ours, as paths within the folder, that an earlier set's edits.json names, and its bank, where that
    file is replaced and they are not."""
    stale = []
    for sidecar in (name for name in files if name.name == SIDECAR):
        entries = (_stated(folder / sidecar) or {}).get("edits", ())
        named = [sidecar.parent / Path(str(entry.get("file"))).name for entry in entries]
        stale += [name for name in named if name not in files and bears_recipe(folder / name)]
        bank = sidecar.parent / BANK
        stale += [bank] if entries and bank not in files and is_bank(folder / bank) else []
    return stale


def is_bank(file: Path) -> bool:
    """Whether it is what a set of ours was to be continued with."""
    try:
        with safe_open(file, "np") as opened:
            return BANK_FORMAT in (opened.metadata() or {})
    except (OSError, SafetensorError):
        return False


def same(one: Path, two: Path) -> bool:
    """Whether both are one file, also by a link."""
    with suppress(OSError):
        return os.path.samefile(one, two)
    return False


def _claimed(folder: Path, files: Files) -> bool:
    """Whether the files can go there; then the first of them is there, empty, and no other process takes the place."""
    if any(os.path.lexists(folder / name.parts[0]) for name in files) or (folder.exists() and not folder.is_dir()):
        return False
    if not files:
        return True
    first = folder / next(iter(files))
    first.parent.mkdir(parents=True, exist_ok=True)
    try:
        first.open("x").close()
    except FileExistsError:
        return False
    return True


def _ours(file: Path) -> bool:
    return (
        bears_recipe(file)
        or (file.name == BANK and is_bank(file))
        or (file.name == SIDECAR and _stated(file) is not None)
    )


def _stated(sidecar: Path) -> dict[str, Any] | None:
    """What an edits.json of ours says; None where there is none, or one of somebody else's."""
    try:
        stated = json.loads(sidecar.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    ours = isinstance(stated, dict) and "recipe" in stated and isinstance(stated.get("edits"), list)
    return stated if ours and all(isinstance(entry, dict) for entry in stated["edits"]) else None


def _shows(file: Path, picture: Any) -> bool:
    """Whether the file is a picture of that fingerprint."""
    try:
        return bool(fingerprint(read_image(file)) == picture)
    except InputError:
        return False
