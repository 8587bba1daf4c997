"""Files that are written aside and moved when all of them are complete."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ctxrep_edit.errors import InputError, OutputError

PREFIX = ".ctxrep-"
STALE = 24 * 60 * 60  # seconds after which nobody can still be writing
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
"""Ends of names that no folder is meant by."""
PAGES = (".html", ".htm")
"""Ends of names of a page."""


@contextmanager
def aside(folder: Path) -> Iterator[Path]:
    """An empty hidden folder in `folder`, which is gone afterwards. Those that a killed process left there go too."""
    for left in folder.glob(f"{PREFIX}????????"):
        with suppress(OSError):
            if left.is_dir() and not left.is_symlink() and time.time() - left.stat().st_mtime > STALE:
                shutil.rmtree(left)
    with tempfile.TemporaryDirectory(dir=folder, prefix=PREFIX) as made:
        yield Path(made)


class Moves:
    """Files that change places within a disk, and can be put back. aside: a folder for what was there before."""

    def __init__(self, aside: Path) -> None:
        aside.mkdir()
        self._aside = aside
        self._done: list[tuple[Path, Path]] = []
        self._made: list[Path] = []

    def parents(self, file: Path) -> None:
        """Makes the folders that it needs. Raises OutputError where a file is in the way, or a folder in its own."""
        for folder in reversed(file.parents):
            if os.path.lexists(folder) and not folder.is_dir():
                raise OutputError(
                    f"{folder} is a file, but a folder for {file.name} is to be there: name another folder."
                )
            if not folder.exists():
                folder.mkdir(exist_ok=True)
                self._made.append(folder)
        if file.is_dir():
            raise OutputError(f"{file} is a folder, but a file is to be written there: name another folder.")

    def away(self, file: Path) -> None:
        """Moves it into the folder aside, where it is there."""
        if os.path.lexists(file):
            self.move(file, self._aside / str(len(self._done)))

    def move(self, file: Path, to: Path) -> None:
        self._done.append((file, to))  # before it is: what was not done cannot be undone, and does no harm
        os.replace(file, to)

    def undo(self) -> None:
        for file, to in reversed(self._done):
            with suppress(OSError):
                os.replace(to, file)
        for folder in reversed(self._made):
            with suppress(OSError):
                folder.rmdir()


def move(
    files: Mapping[Path, Path], folder: Path, work: Path, *, last: str, stale: Sequence[Path], held: Path | None
) -> None:
    """Moves each file to its path within `folder`, and the `stale` ones there away: all or nothing.

    work: a new folder on the disk of both. last: the name of files that vouch for the others: earlier ones go before
    all, new ones come after all. held: one of the places, where an empty file keeps others out until then.
    """
    moves = Moves(work)
    order = sorted(files, key=lambda name: name.name == last)
    try:
        for name in order:
            moves.parents(folder / name)
        for name in (name for name in order if name.name == last and folder / name != held):
            moves.away(folder / name)
        for name in order:
            if folder / name != held:
                moves.away(folder / name)
            moves.move(files[name], folder / name)
        for name in stale:
            moves.away(folder / name)
    except BaseException:
        moves.undo()
        if held is not None:
            held.unlink(missing_ok=True)
        raise


def write_aside(file: Path, text: str) -> None:
    """Writes it in full or not at all, also where there was one; into a device or a pipe at once."""
    if file.exists() and not file.is_file():
        file.write_text(text, "utf-8")
        return
    target = Path(os.path.realpath(file))  # what a link names, and not the link
    with aside(target.parent) as work:
        (work / "0").write_text(text, "utf-8")
        os.replace(work / "0", target)


def as_path(given: Any, name: str) -> Path:
    """A path that a caller gave as argument `name`. Raises InputError for what is none."""
    try:
        path = os.fspath(given)
    except TypeError:
        path = given
    if not isinstance(path, str) or not path or "\0" in path:
        raise InputError(f"{name} is {given!r}, which is no path: give a string or a Path.")
    return Path(path).expanduser()


def as_folder(given: Any, name: str) -> Path:
    """A path of a folder, which need not be there, that a caller gave as argument `name`. Raises InputError for what is
    none, and for a new one that is named like a picture."""
    path = as_path(given, name)
    if path.suffix.lower() in PICTURES and not path.is_dir():
        raise InputError(
            f"{name} is {str(given)!r}, a name for one picture, but a set is written into a folder: leave "
            f"{path.suffix} out. sheet.png in it shows all; in Python edits.sheet().save(...) writes that alone."
        )
    return path
