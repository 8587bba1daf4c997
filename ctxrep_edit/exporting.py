"""Writes a set through exporters, all of it or nothing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ctxrep_edit import catalog
from ctxrep_edit.errors import OutputError

if TYPE_CHECKING:
    from ctxrep_edit.contracts import Exporter
    from ctxrep_edit.editset import EditSet


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
            for wanted, file in made.items():
                wanted.parent.mkdir(parents=True, exist_ok=True)
                os.replace(file, wanted)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f"The edits cannot be written to {target}: {error.strerror or error}. Name a folder that you may "
            "write to, on a disk with room."
        ) from error
    return list(made)


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
