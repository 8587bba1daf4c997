"""One row after the other: held against the model, and made."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ctxrep_plugins.batch.columns import COLUMNS
from ctxrep_plugins.batch.folder import ATTEMPTS, Folder
from ctxrep_plugins.batch.manifest import Row
from ctxrep_plugins.shared import how_far

from ctxrep_edit import CtxrepError, InputError, load_pipeline, stream_edits

if TYPE_CHECKING:
    from ctxrep_edit import Edit, EditSet, EditStream

Record = dict[str, Any]
"""What becomes of a row, as JSON takes it."""
MADE, FAILED = "made", "failed"
Fault = tuple[str, str | None, str]
"""Of a row at this place, in this column, this."""


class Maker(Protocol):
    """Makes rows, here or elsewhere."""

    def faults(self) -> Iterable[list[Fault]]:
        """What of each row the model cannot take; nothing is made."""

    def records(self) -> Generator[Record, None, None]:
        """Makes each row; what becomes of it as soon as it is known, in any order."""


@dataclass
class Here:
    """One pipeline in this process. model: what `load_pipeline` takes."""

    rows: Sequence[Row]
    folder: Folder
    model: Mapping[str, Any]
    _pipeline: Any = None

    def faults(self) -> Iterator[list[Fault]]:
        if self.rows:
            self._pipeline = load_pipeline(**self.model, progress=False)
        return faults(self.rows, self._pipeline)

    def records(self) -> Generator[Record, None, None]:
        for row in self.rows:
            yield make(row, self._pipeline, self.folder)


def faults(rows: Sequence[Row], pipeline: Any) -> Iterator[list[Fault]]:
    """What of each row the model cannot take; nothing is made."""
    for row in rows:
        with _warned([]):
            try:
                _planned(row, pipeline)
            except InputError as error:
                named = next((name for name in re.findall(r"\w+", str(error)) if name in COLUMNS), None)
                yield [(row.place, named, str(error).removeprefix(f"{named} "))]
            else:
                yield []


def make(row: Row, pipeline: Any, folder: Folder) -> Record:
    """Makes the set of a row and lays it down. Whatever goes wrong is in the record."""
    begun, told = time.perf_counter(), list[str]()
    record = {"id": row.id, "row": row.place, **row.stated, "n": row.n, "seed": row.seed, "digest": row.digest}
    try:
        with _warned(told):
            edits = _planned(row, pipeline).finish()
        record |= {"status": MADE, **_about(edits, row), "seconds": round(edits.seconds, 3)}
        record |= {"total_seconds": round(time.perf_counter() - begun, 3), "warnings": told, "error": None}
        folder.put(row, edits, record)
    except Exception as error:  # whatever the model raises
        return failed(row, str(error) if isinstance(error, CtxrepError) else f"{type(error).__name__}: {error}", told)
    return record


def make_once(row: Row, pipeline: Any, folder: Folder) -> Record:
    """`make`, where a worker may be killed and its rows be given to another: what is there is not made again, and a row
    that breaks off each worker is given up."""
    known = folder.record(row)
    if known is None:
        broken = folder.begun(row)
        if broken >= ATTEMPTS:
            known = failed(row, f"Its worker broke off {broken} times, as by want of memory. Ask for less in this row.")
        else:
            known = make(row, pipeline, folder)
    folder.ended(row)
    return known


def failed(row: Row, cause: str, told: Sequence[str] = ()) -> Record:
    return {
        "id": row.id, "row": row.place, **row.stated, "n": row.n, "seed": row.seed, "digest": row.digest,
        "status": FAILED, "edits": [], "dropped": [], "vendi": None, "distinct": None, "seconds": None,
        "total_seconds": None, "warnings": list(told), "error": cause,
    }  # fmt: skip


def _planned(row: Row, pipeline: Any) -> EditStream:
    return stream_edits(
        row.image, row.instruction, row.n, mask=row.mask, seed=row.seed, pipeline=pipeline, bank="off", progress=False,
        **row.options,
    )  # fmt: skip


def _about(edits: EditSet, row: Row) -> Record:
    return {
        "edits": [{"file": f"{row.id}/{edit.file}", **_of(edit)} for edit in edits],
        "dropped": [_of(edit) for edit in edits.dropped], **how_far(edits),
    }  # fmt: skip


def _of(edit: Edit) -> Record:
    deciding = edit.verdict
    word = None if deciding is None else "kept" if edit.faithful else deciding.word
    return {
        "index": edit.index, "seed": edit.seed, "value": edit.value, "lpips": edit.lpips, "verdict": word,
        "reason": deciding.reason if deciding else None,
    }  # fmt: skip


@contextmanager
def _warned(told: list[str]) -> Iterator[None]:
    """Warnings of ours go into `told`, each once."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        yield
    told += dict.fromkeys(str(one.message) for one in heard if one.category.__module__.startswith("ctxrep_"))
