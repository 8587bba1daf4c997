"""The folder of a batch: one folder for each row, which is complete or not there."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctxrep_plugins.batch.manifest import Row

from ctxrep_edit import OutputError, encode_json

if TYPE_CHECKING:
    from ctxrep_edit import EditSet

RECORD = "row.json"
"""What is known of a set, in its folder."""
ASIDE = ".ctxrep-batch-"
ATTEMPTS = 3
"""How often a row may break off its worker."""


@dataclass(frozen=True)
class Folder:
    """place: whose folders are called as the rows are."""

    place: Path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """In it, no other batch works in this folder. Raises OutputError where one does."""
        from filelock import FileLock, Timeout

        lock = FileLock(self.place / ".ctxrep-lock", blocking=False)
        try:
            self.place.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            raise OutputError(f"Another batch is at work in {self.place}: wait for its end, or name another.") from None
        except OSError as error:
            raise OutputError(f"The folder {self.place} cannot be used: {error.strerror}. Name another.") from error
        try:
            yield
        finally:
            with suppress(OSError):
                self._attempts.rmdir()
            lock.release()

    def open(self, rows: Sequence[Row]) -> None:
        """Takes away what a killed process has left. Raises OutputError where the folder cannot be used."""
        try:
            with tempfile.TemporaryFile(dir=self.place):
                pass
            for left in self.place.glob(f"{ASIDE}*"):
                shutil.rmtree(left)
        except OSError as error:
            raise OutputError(f"The folder {self.place} cannot be used: {error.strerror}. Name another.") from error
        for row in rows:
            own = self.place / row.id
            if os.path.lexists(own) and self._record(row.id) is None:
                raise OutputError(f"{own} is there already and of no batch, and is not replaced: name another -o.")

    def record(self, row: Row) -> dict[str, Any] | None:
        """What is known of the set of a row; None where it is not whole, or was made of something else."""
        known = self._record(row.id)
        if known is None or known.get("digest") != row.digest:
            return None
        files = [self.place / edit["file"] for edit in known["edits"]]
        return known if all(file.is_file() for file in files) else None

    def put(self, row: Row, edits: EditSet, record: Mapping[str, Any]) -> None:
        """Lays a set down, in place of an earlier one of that row."""
        aside = self.place / f"{ASIDE}{row.id}-{secrets.token_hex(8)}"
        old = aside.with_name(f"{aside.name}-old")
        try:
            edits.save(aside)
            (aside / RECORD).write_text(encode_json(record) + "\n", "utf-8")
            for file in aside.iterdir():
                with open(file, "rb+") as stream:
                    os.fsync(stream.fileno())
            own = self.place / row.id
            if own.exists():
                own.rename(old)
            aside.rename(own)
        finally:
            for left in (aside, old):
                shutil.rmtree(left, ignore_errors=True)

    def begun(self, row: Row) -> int:
        """Notes that a row is begun; how often it was before without coming to an end."""
        self._attempts.mkdir(exist_ok=True)
        with open(self._attempts / row.id, "ab") as stream:
            before = stream.tell()
            stream.write(b".")
        return before

    def ended(self, row: Row) -> None:
        (self._attempts / row.id).unlink(missing_ok=True)

    @property
    def _attempts(self) -> Path:
        return self.place / f"{ASIDE}begun"

    def _record(self, name: str) -> dict[str, Any] | None:
        with suppress(OSError, ValueError):
            known = json.loads((self.place / name / RECORD).read_text("utf-8"))
            if isinstance(known, dict) and known.get("id") == name and isinstance(known.get("edits"), list):
                return known
        return None
