"""Where the settings that were found are kept, so that `diverse_edit` takes them as the model's default."""

from __future__ import annotations

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
    """Settings in the file that no calibration put there, so that somebody may miss them."""
    found = stated(file)
    return {} if found.get("calibrated") else found.get("repulsion") or {}


def keep(file: Path, settings: Mapping[str, Any], how: Mapping[str, Any]) -> Path | None:
    """Puts the settings over those in the file, and leaves all else that it states. how: when and on what they were
    measured. Settings that were there before are kept in a file beside it, whose path is returned."""
    found = stated(file)
    before = found.get("repulsion") or {}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{file.parent} cannot be made: {error.strerror}. Use --dry-run.") from error
    backup = file.with_name(f"{file.name}.before") if before else None
    if backup is not None and not backup.exists():  # the first one is what the model came with
        write(backup, file.read_bytes())
    others = {name: value for name, value in before.items() if name not in ("eta", "steps")}  # other ways to say it
    new = {**found, "repulsion": {**others, **settings}, "calibrated": dict(how)}
    write(file, (encode_json(new) + "\n").encode())
    return backup
