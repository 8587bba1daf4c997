"""What several of our plugins need, beside them. It starts without anything heavy."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctxrep_edit import InputError, OutputError

if TYPE_CHECKING:
    from ctxrep_edit import EditSet

PHOTOGRAPHS = (".jpeg", ".jpg", ".png", ".webp")
"""How the names end of what is taken from a folder of photographs."""


def need(command: str, modules: Sequence[str], extra: str) -> None:
    """Raises InputError where some of the modules, which an extra brings, are not installed."""
    lacking = [name for name in modules if importlib.util.find_spec(name) is None]
    if lacking:
        raise InputError(f"{command} needs {', '.join(lacking)}, not installed: pip install 'ctxrep-edit[{extra}]'.")


def write(file: Path, content: bytes, mend: str = "Name another folder.") -> None:
    """All or nothing. Raises OutputError, which says what mends it."""
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(file)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise OutputError(f"{file} cannot be written: {error.strerror}. {mend}") from error


def file_digest(file: Path) -> str:
    """SHA-256 of what is in a file. Raises InputError."""
    try:
        with open(file, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}.") from error


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Variables of this process, which are put back."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def how_far(edits: EditSet) -> Mapping[str, Any]:
    """How far the edits of a set differ, where its pictures were measured at all."""
    if not len(edits) or not any(edit.verdicts for edit in edits):
        return {"vendi": None, "distinct": None}
    try:
        return {"vendi": round(edits.vendi, 4), "distinct": edits.distinct}
    except InputError:  # an embedder that is switched off
        return {"vendi": None, "distinct": None}
