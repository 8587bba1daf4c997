"""What has been measured, in a file that is whole at any time, so that a calibration goes on where it was stopped."""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctxrep_plugins.calibrate.measuring import Measured
from ctxrep_plugins.shared import write

from ctxrep_edit import InputError, OutputError, encode_json

if TYPE_CHECKING:
    from PIL import Image

FILE = "state.json"
SHEETS = "sheets"
PLAIN = "plain"
SHOWN = 4  # tasks, from the first, of which each setting's contact sheet is kept


class State:
    """The finished sets, by setting and by the number of the task. asked: what they depend on beside these, lists in
    the order by which tasks are numbered."""

    def __init__(self, folder: Path, asked: dict[str, Any]) -> None:
        self.folder, self.asked = folder, json.loads(encode_json(asked))
        self.sets: dict[str, dict[int, Measured]] = {}
        try:
            (folder / SHEETS).mkdir(parents=True, exist_ok=True)
            if (folder / FILE).exists():
                self._read((folder / FILE).read_text("utf-8"))
        except OSError as error:
            raise OutputError(f"{folder} cannot be used: {error.strerror}. Name another folder by -o.") from error

    def has(self, label: str, task: int) -> bool:
        return task in self.sets.get(label, {})

    def add(self, label: str, task: int, one: Measured, sheet: Image.Image | None) -> None:
        """Both files are written aside and moved, the sheet first: a set that is in the state has its sheet."""
        self.sets.setdefault(label, {})[task] = one
        if sheet is not None:
            stream = io.BytesIO()
            sheet.save(stream, "WEBP", quality=85)
            write(self.sheet(label, task), stream.getvalue())
        sets = {label: {str(task): asdict(one) for task, one in sets.items()} for label, sets in self.sets.items()}
        write(self.folder / FILE, (encode_json({"asked": self.asked, "sets": sets}) + "\n").encode())

    def sheet(self, label: str, task: int) -> Path:
        return self.folder / SHEETS / f"{task}-{label.replace(':', '_')}.webp"

    def _read(self, text: str) -> None:
        try:
            stated = json.loads(text)
            asked, sets = stated["asked"], stated["sets"]
            self.sets = {
                label: {int(task): Measured(**one) for task, one in found.items()} for label, found in sets.items()
            }
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(
                f"{self.folder / FILE} is no state of a calibration: delete it, or name another -o."
            ) from error
        other = [name for name in asked.keys() | self.asked.keys() if asked.get(name) != self.asked.get(name)]
        if other:
            what = ", ".join(f"{name} {asked.get(name)!r}, now {self.asked.get(name)!r}" for name in sorted(other))
            raise InputError(
                f"{self.folder} holds a calibration of something else ({what}): name another folder by -o."
            )
