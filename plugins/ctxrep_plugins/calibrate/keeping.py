"""Where the settings that were found are kept, so that `diverse_edit` takes them as the model's default."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ctxrep_plugins.shared import write

from ctxrep_edit import ModelError, OutputError, calibration_file, encode_json


def place(pipeline: Any) -> Path:
    """The file. Raises ModelError where there is no name to keep it under."""
    file = calibration_file(pipeline)
    if file is None:
        raise ModelError(
            "This model has neither a folder nor a known commit on the hub, so settings cannot be kept for it: use "
            "--dry-run, and give what is found as repulsion=Repulsion(...)."
        )
    return file


def stated(file: Path) -> dict[str, Any]:
    """What the file states already. Raises ModelError where it cannot be read."""
    if not file.exists():
        return {}
    try:
        found = json.loads(file.read_text("utf-8"))
        if not isinstance(found, dict):
            raise ValueError("it is no object")
        return found
    except (OSError, ValueError) as error:
        raise ModelError(f"The profile {file} cannot be read: {error}. Mend or delete the file.") from error


def theirs(file: Path) -> Mapping[str, Any]:
    """Settings in the file that are not as a calibration left them, so that somebody may miss them."""
    found = stated(file)
    written = found.get("repulsion") or {}
    return {} if written == (found.get("calibrated") or {}).get("repulsion") else written


def keep(file: Path, settings: Mapping[str, Any], how: Mapping[str, Any]) -> Path | None:
    """Puts the settings over those in the file, and leaves all else that it states. how: when and on what they were
    measured. The file as it was, if it stated other settings, is kept beside it, under the name that is returned."""
    found = stated(file)
    before = found.get("repulsion") or {}
    others = {name: value for name, value in before.items() if name not in ("eta", "steps")}  # other ways to say it
    now = {**others, **settings}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{file.parent} cannot be made: {error.strerror}. Use --dry-run.") from error
    backup = _unused(file) if before and before != now else None
    if backup is not None:
        write(backup, file.read_bytes())
    new = {**found, "repulsion": now, "calibrated": {**how, "repulsion": now}}
    write(file, (encode_json(new) + "\n").encode())
    return backup


def _unused(file: Path) -> Path:
    """A name beside the file that no earlier backup has."""
    first = file.with_name(f"{file.name}.before")
    later = (first.with_name(f"{first.name}-{number}") for number in itertools.count(2))
    return next(name for name in itertools.chain([first], later) if not name.exists())
