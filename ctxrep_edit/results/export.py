"""Writes sets through exporters, all of it or nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctxrep_edit.errors import CtxrepError, InputError, OutputError
from ctxrep_edit.plugins import catalog
from ctxrep_edit.results.aside import PAGES, as_folder, as_path, aside, move
from ctxrep_edit.results.places import SIDECAR, Files, Numbered, Over, earlier

if TYPE_CHECKING:
    from ctxrep_edit.plugins.contracts import Exporter
    from ctxrep_edit.results.editset import EditSet


def export(
    sets: Mapping[str, EditSet],
    folder: Any,
    exporters: Sequence[str | Exporter],
    place: Callable[[Path, Files], Path],
    beside: Mapping[str, bytes] | None = None,
) -> list[Path]:
    """Writes each set into the sub-folder of its name ("": the folder itself), and files `beside` them.

    Everything is written into a folder aside, and moved where `place` says when all is complete; where that fails, what
    was there is put back. Returns the paths.
    Raises OutputError, InputError for an unknown name and for what is no folder or no list of exporters.
    """
    target = as_folder(folder, "folder")
    if isinstance(exporters, str) or not isinstance(exporters, Sequence):
        raise InputError(f"exporters is {exporters!r}, but must be a list of names or exporters, such as ['png'].")
    chosen = [catalog.EXPORTERS.get(exporter) for exporter in exporters]
    try:
        target.mkdir(parents=True, exist_ok=True)
        with aside(target) as work:
            files: dict[Path, Path] = {}  # from where a file will be to where it is
            for i, (name, edits) in enumerate(sets.items()):
                files |= {Path(name, file): made for file, made in _render(edits, chosen, work / str(i)).items()}
            for name, content in (beside or {}).items():
                files[Path(name)] = work / name
                files[Path(name)].write_bytes(content)
            folder = place(target, files)
            held = place.held if isinstance(place, Numbered) else None
            move(files, folder, work / "before", last=SIDECAR, stale=earlier(folder, files), held=held)
            return [folder / name for name in files]
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f"The edits cannot be written to {target}: {error.strerror or error}. Name a folder that you may "
            "write to, on a disk with room."
        ) from error


def export_file(edits: EditSet, file: Any, exporter: str, made: str) -> Path:
    """Writes `file`, a page, as what `exporter` calls `made`, in full or not at all. Raises OutputError, also for the
    name of another kind of file, which may be one that is there."""
    target = as_path(file, "file")
    if target.suffix.lower() not in (*PAGES, ""):
        raise OutputError(f"{target} is not named like a {made}: give it the ending {PAGES[0]}.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with aside(target.parent) as work:
            finished = _export(catalog.EXPORTERS.get(exporter), edits, work / "0")[Path(made)]
            Over(edits.recipe.get("source"))(target.parent, {Path(target.name): finished})
            os.replace(finished, target)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f"{target} cannot be written: {error.strerror or error}. Name a file where you may write."
        ) from error
    return target


def _render(edits: EditSet, exporters: Sequence[Exporter], work: Path) -> dict[Path, Path]:
    """The files of one set, by their path within its folder."""
    work.mkdir()
    files: dict[Path, Path] = {}
    for i, exporter in enumerate(exporters):
        for name, file in _export(exporter, edits, work / str(i)).items():
            if name in files:
                raise OutputError(f"Two exporters write {name}, {exporter.name} the second: leave one out.")
            files[name] = file
    return files


def _export(exporter: Exporter, edits: EditSet, folder: Path) -> dict[Path, Path]:
    """The files that an exporter makes, by their path within the target."""
    folder.mkdir()
    try:
        exporter.export(edits, folder)
    except (OSError, CtxrepError):
        raise
    except Exception as error:  # whatever it raises
        raise OutputError(
            f"The exporter {exporter.name} failed: {type(error).__name__}: {error}. Nothing was written: leave it out."
        ) from error
    return {file.relative_to(folder): file for file in sorted(folder.rglob("*")) if file.is_file()}
