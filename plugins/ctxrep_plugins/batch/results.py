"""What has become of each row, in files beside the sets."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ctxrep_plugins.batch import tables
from ctxrep_plugins.batch.making import FAILED, Record
from ctxrep_plugins.batch.manifest import Row
from ctxrep_plugins.shared import write

from ctxrep_edit import OutputError, encode_json

OF_SET = {
    "id": "string", "row": "string", "status": "string", "image": "string", "instruction": "string", "mask": "string",
    "n": "int64", "seed": "int64", "vendi": "float64", "distinct": "int64", "seconds": "float64",
    "total_seconds": "float64", "error": "string",
}  # fmt: skip
OF_EDIT = {
    "index": "int64", "file": "string", "edit_seed": "int64", "value": "string", "lpips": "float64",
    "verdict": "string", "reason": "string",
}  # fmt: skip
SPARE = 20
"""A file is not written anew before so many times the time have passed that writing it takes."""


class Results:
    """results.jsonl, a line for each row; `forms` (csv, parquet) are tables with a line for each edit."""

    def __init__(self, place: Path, rows: Sequence[Row], forms: Sequence[str]) -> None:
        self._place, self._rows, self._forms = place, rows, forms
        self._file = place / "results.jsonl"
        self.records: dict[str, Record] = {}
        self._rested, self._cost = time.monotonic(), 0.1

    def failed_before(self) -> dict[str, Record]:
        """Rows that failed in an earlier run, by their digest."""
        try:
            lines = [json.loads(line) for line in self._file.read_text("utf-8").splitlines()]
            return {line["digest"]: line for line in lines if line["status"] == FAILED}
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise OutputError(f"{self._file} is of no batch, and is not replaced: name another -o.") from error

    def add(self, record: Record) -> None:
        self.records[record["id"]] = record
        if time.monotonic() - self._rested > SPARE * self._cost:
            self.write()

    def write(self) -> None:
        """All of them so far, in the manifest's order."""
        begun = time.monotonic()
        lines = [encode_json(record, None) + "\n" for record in self._ordered()]
        write(self._file, "".join(lines).encode())
        self._rested, self._cost = time.monotonic(), max(0.05, time.monotonic() - begun)

    def close(self) -> None:
        self.write()
        for form in self._forms:
            table = tables.encoded(form, list(self._flat()), OF_SET | OF_EDIT)
            write(self._file.with_suffix(f".{form}"), table)

    def _ordered(self) -> Iterator[Record]:
        return (self.records[row.id] for row in self._rows if row.id in self.records)

    def _flat(self) -> Iterator[dict[str, Any]]:
        """A line for each edit; one without an edit for a row that has none."""
        for record in self._ordered():
            shared = {name: record.get(name) for name in OF_SET}
            for edit in record["edits"] or [{}]:
                yield {**shared, **{name: edit.get("seed" if name == "edit_seed" else name) for name in OF_EDIT}}
