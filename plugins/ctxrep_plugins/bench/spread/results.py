"""The trials of `bench spread`, kept while it runs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from ctxrep_plugins.bench.spread.methods import PLAIN, Method
from ctxrep_plugins.bench.spread.summary import agreement, summary
from ctxrep_plugins.bench.spread.trials import Trial
from ctxrep_plugins.bench.tasks import Task

from ctxrep_edit import CtxrepError, InputError, OutputError, encode_json

VERSION = 4  # of the trials file
Row = dict[str, Any]


class Results:
    """The trials of one model. With a file, each is written as it comes, and what the file holds is not done again."""

    def __init__(self, file: Path | None, **settings: Any) -> None:
        self.settings = {"version": VERSION, **settings}
        self.trials: dict[str, dict[tuple[int, str, bool], Trial]] = {}
        self.failures: dict[str, str] = {}
        self._file = (
            None if file is None else file.with_name(f"{file.stem}-{Path(settings['model']).name}{file.suffix}")
        )
        self._stream: TextIO | None = None

    def __enter__(self) -> Results:
        if self._file is None:
            return self
        try:
            text = self._file.read_text("utf-8") if self._file.exists() else ""
            self._read(text.splitlines())
            self._stream = self._file.open("a", encoding="utf-8")
            if not text:
                self._write(self.settings)
            elif not text.endswith("\n"):  # ends what was cut off
                self._stream.write("\n")
        except OSError as error:
            raise OutputError(f"{self._file} cannot be used: {error.strerror}. Name another --trials file.") from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()

    def _read(self, lines: Sequence[str]) -> None:
        if not lines:
            return
        try:
            head, *rest = [json.loads(line) for line in lines if line.endswith("}")]  # others were cut off
            if head != self.settings:
                both = (head, self.settings), (self.settings, head)
                was, now = (dict(sorted(a.items() - b.items())) for a, b in both)
                raise InputError(
                    f"{self._file} was written with {was}, this run has {now}: name another --trials file, or delete "
                    "this one."
                )
            for entry in rest:
                trial = Trial(**{k: math.nan if v is None else v for k, v in entry.items()})
                self.trials.setdefault(trial.method, {})[trial.key] = trial
        except (ValueError, TypeError) as error:
            if isinstance(error, CtxrepError):
                raise
            raise InputError(f"{self._file} is no file of trials: name another --trials file.") from error

    def _write(self, entry: dict[str, Any]) -> None:
        if self._stream is not None:
            self._stream.write(encode_json(entry, None) + "\n")
            self._stream.flush()

    def has(self, task: Task, how: Method) -> bool:
        return task.key in self.trials.get(how.label, {})

    def add(self, how: Method, trial: Trial) -> None:
        self.trials.setdefault(how.label, {})[trial.key] = trial
        self._write(asdict(trial))

    def fail(self, how: Method, cause: str) -> None:
        self.failures[how.label] = cause

    def rows(self, methods: Sequence[Method], photos: int) -> list[Row]:
        """One row per method: means over the open instructions, with both kinds and their intervals beside them."""
        return [self._row(how, photos) for how in methods]

    def agreement(self) -> str:
        """How far `EditSet.distinct` agrees with the truth, in one sentence."""
        mine = [trial for trials in self.trials.values() for trial in trials.values()]
        return agreement([trial.different for trial in mine], [trial.counted for trial in mine])

    def _row(self, how: Method, photos: int) -> Row:
        row: Row = {"method": how.label, "family": how.name, "strength": how.strength, "model": self.settings["model"]}
        row["n"] = self.settings["n"]
        if how.label in self.failures:
            return {**row, "error": self.failures[how.label]}
        mine = [trial for trial in self.trials.get(how.label, {}).values() if trial.photo < photos]
        for kind in ("open", "pinned"):
            those = [trial for trial in mine if trial.pinned == (kind == "pinned")]
            figures = summary(those, self.trials.get(PLAIN.label, {}), self.settings["seed"])
            row[kind] = {k: [round(x, 5) if math.isfinite(x) else None for x in v] for k, v in figures.items()}
        return {**row, **{k: row["open"][k][0] for k in row["open"]}}
