"""Writes a set through exporters, all of it or nothing."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Container, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ctxrep_edit.errors import OutputError
from ctxrep_edit.plugins import catalog
from ctxrep_edit.results.png import bears_recipe

if TYPE_CHECKING:
    from ctxrep_edit.plugins.contracts import Exporter
    from ctxrep_edit.results.editset import EditSet


def export(edits: EditSet, target: Path, exporters: Sequence[str | Exporter]) -> list[Path]:
    """Each exporter writes into a folder of its own beside the target; the files are moved when all are complete.

    Returns the paths. Raises OutputError, InputError for an unknown name.
    """
    chosen = [catalog.EXPORTERS.get(exporter) for exporter in exporters]
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target, prefix=".ctxrep-") as aside:
            made: dict[Path, Path] = {}  # from where a file will be to where it is
            for i, exporter in enumerate(chosen):
                for name, file in _export(exporter, edits, Path(aside, str(i))).items():
                    if target / name in made:
                        raise OutputError(f"Two exporters write {name}, {exporter.name} the second: leave one out.")
                    made[target / name] = file
            stale = _stale(target, made)
            for wanted, file in made.items():
                wanted.parent.mkdir(parents=True, exist_ok=True)
                os.replace(file, wanted)
            for picture in stale:
                picture.unlink()
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f"The edits cannot be written to {target}: {error.strerror or error}. Name a folder that you may "
            "write to, on a disk with room."
        ) from error
    return list(made)


def _stale(target: Path, made: Container[Path]) -> list[Path]:
    """Pictures of ours that an earlier set's edits.json counts, where that file is replaced and they are not."""
    sidecar = target / "edits.json"
    try:
        count = len(json.loads(sidecar.read_text("utf-8"))["edits"]) if sidecar in made else 0
    except (OSError, ValueError, KeyError, TypeError):  # no earlier set, or a file of somebody else's
        return []
    pictures = (target / f"edit-{i + 1}.png" for i in range(count))
    return [picture for picture in pictures if picture not in made and bears_recipe(picture)]


def export_file(edits: EditSet, target: Path, exporter: str, made: str) -> Path:
    """Writes `target` as what `exporter` calls `made`, in full or not at all. Raises OutputError."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".ctxrep-") as aside:
            os.replace(_export(catalog.EXPORTERS.get(exporter), edits, Path(aside, "0"))[Path(made)], target)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f"{target} cannot be written: {error.strerror or error}. Name a file where you may write."
        ) from error
    return target


def _export(exporter: Exporter, edits: EditSet, folder: Path) -> dict[Path, Path]:
    """The files that an exporter makes, by their path within the target."""
    folder.mkdir()
    try:
        exporter.export(edits, folder)
    except OSError:
        raise
    except Exception as error:  # whatever it raises
        raise OutputError(
            f"The exporter {exporter.name} failed: {type(error).__name__}: {error}. Nothing was written: leave it out."
        ) from error
    return {file.relative_to(folder): file for file in sorted(folder.rglob("*")) if file.is_file()}
