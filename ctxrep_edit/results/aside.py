"""Files that are written aside and moved when all of them are complete."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ctxrep_edit.errors import InputError

PREFIX = ".ctxrep-"
STALE = 24 * 60 * 60  # seconds after which nobody can still be writing
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
"""Ends of names that no folder is meant by."""


@contextmanager
def aside(folder: Path) -> Iterator[Path]:
    """An empty hidden folder in `folder`, which is gone afterwards. Those that a killed process left there go too."""
    for left in folder.glob(f"{PREFIX}????????"):
        with suppress(OSError):
            if left.is_dir() and not left.is_symlink() and time.time() - left.stat().st_mtime > STALE:
                shutil.rmtree(left)
    with tempfile.TemporaryDirectory(dir=folder, prefix=PREFIX) as made:
        yield Path(made)


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
