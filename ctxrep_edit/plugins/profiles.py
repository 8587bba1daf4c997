"""What is stated about a model, in its folder or among the user's settings, and the settings that follow."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ctxrep_edit.errors import ModelError
from ctxrep_edit.plugins import catalog
from ctxrep_edit.plugins.adapter import Adapter
from ctxrep_edit.settings import UNSAID, Repulsion, completed

PROFILE = "ctxrep.json"
COMMIT = re.compile(r"[/\\]snapshots[/\\]([0-9a-f]{40})(?:[/\\]|$)")
"""In the path of a file of the hub's cache."""


@dataclass(frozen=True)
class Profile:
    """What a model folder may state about itself in `ctxrep.json`.

    sizes: (width, height) in pixels that the model edits at; empty: the adapter decides. call: default arguments of
    the pipeline; None for one that the adapter gives and this model does without. repulsion: settings that differ from
    the adapter's defaults. calibrated: where they were measured on this very model, when and how. files: from which all
    of this was read; it is not stated itself.
    """

    sizes: tuple[tuple[int, int], ...] = ()
    call: Mapping[str, Any] = field(default_factory=dict)
    repulsion: Mapping[str, Any] = field(default_factory=dict)
    calibrated: Mapping[str, Any] = field(default_factory=dict)
    base: str = ""
    files: tuple[Path, ...] = ()

    def size(self, width: int, height: int) -> tuple[int, int] | None:
        """The size whose aspect is nearest to width / height, in ratio; None where the model states none."""
        if not self.sizes:
            return None
        aspect = width / height
        return min(self.sizes, key=lambda s: max(aspect * s[1] / s[0], s[0] / (s[1] * aspect)))


def default_settings(pipeline: Any) -> Repulsion:
    """What is used on `pipeline` if nothing is said: the defaults of its folder, and of its adapter."""
    return settings_for(pipeline, Repulsion())


def settings_for(pipeline: Any, asked: Repulsion, adapter: Adapter | None = None) -> Repulsion:
    """`asked`, with what it leaves out as the scope, the model's folder or its family states it. Raises InputError."""
    adapter = adapter or catalog.adapter_for(pipeline)
    stated = Repulsion(**profile(pipeline).repulsion)
    scope = adapter.scope(asked.scope or stated.scope)
    return completed(asked, Repulsion(iterations=scope.iterations or UNSAID), stated, adapter.default)


def profile(pipeline: Any) -> Profile:
    """What is stated of the model of `pipeline`: in the folder that it was loaded from, and, which counts more, in
    `calibration_file`. An empty one where there is neither. Raises ModelError."""
    found = Profile()
    origin = _origin(pipeline)
    theirs = Path(origin) / PROFILE if origin else None
    for file in dict.fromkeys((theirs, calibration_file(pipeline))):
        if file is not None and file.is_file():
            read = _read(file)
            given = {f.name: getattr(read, f.name) for f in fields(Profile) if getattr(read, f.name)}
            found = replace(found, **given, files=(*found.files, file))
    return found


def base_of(folder: Path) -> Path | None:
    """The folder whose parts the one of a model shares; None where it states none. Raises ModelError."""
    file = folder / PROFILE
    base = _read(file).base if file.is_file() else ""
    return folder / base if base else None


def calibration_file(pipeline: Any) -> Path | None:
    """Where settings that were measured on the model of `pipeline` are kept: `ctxrep.json` in its folder; for a model
    of the hub, by its id and commit, and for one that ships with a plugin, by its name, a file of the user's, in
    `CTXREP_EDIT_CONFIG` if set, else in the user's configuration folder. None for a pipeline that was put together in
    code, and for one of the hub whose commit is not known."""
    origin = _origin(pipeline)
    if origin is None:
        return None
    embedded = catalog.embedded_at(origin)
    if embedded is not None:
        return _kept() / f"{embedded.name}.json"
    if Path(origin).is_dir():
        return Path(origin) / PROFILE
    commit = _commit(pipeline)
    return None if commit is None else _kept() / f"{origin.replace('/', '--')}@{commit}.json"


def _origin(pipeline: Any) -> str | None:
    """The folder or the hub id that a pipeline was loaded from."""
    return getattr(pipeline, "config", {}).get("_name_or_path") or None


def _commit(pipeline: Any) -> str | None:
    """Of the hub's repository that a pipeline was loaded from: its parts know the folder of the cache."""
    parts = (getattr(pipeline, "components", None) or {}).values()
    paths = (str(getattr(getattr(part, "config", None), "_name_or_path", "") or "") for part in parts)
    found = [known[1] for known in map(COMMIT.search, paths) if known]
    return found[0] if found else None


def _kept() -> Path:
    import platformdirs

    chosen = os.environ.get("CTXREP_EDIT_CONFIG")
    place = Path(chosen).expanduser() if chosen else platformdirs.user_config_path("ctxrep-edit")
    return place / "models"


def _read(file: Path) -> Profile:
    try:
        stated = json.loads(file.read_text("utf-8"))
        stated["sizes"] = tuple((int(w), int(h)) for w, h in stated.get("sizes", ()))
        unknown = set(stated["repulsion"]) - {f.name for f in fields(Repulsion)} if "repulsion" in stated else set()
        if unknown:
            raise ValueError(f"unknown repulsion settings {sorted(unknown)}")
        if not isinstance(stated.get("base", ""), str):
            raise ValueError(f"base is {stated['base']!r}, but must be a folder, from this one on")
        if "files" in stated:
            raise ValueError("files is nothing that it can state")
        return Profile(**stated)
    except (ValueError, TypeError, AttributeError) as error:
        raise ModelError(f"The profile {file} cannot be used: {error}. Mend or delete the file.") from error
