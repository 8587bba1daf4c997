"""The folders of jobs: what was asked for, what is finished by now, and the set. Each file is whole or not there."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ctxrep_edit import OutputError, encode_json

FILE = re.compile(r"((edit|region|heat)-\d{1,6}|source|sheet)\.png|edits\.json")
"""What may be fetched."""
REQUEST, SET, TOLD = "request.json", "set", "told"
REFERENCE = "reference-"
"""What the names of further pictures begin with; one digit follows."""


def set_id(job: str) -> str:
    """Of the set of a job."""
    return f"set-{job.removeprefix('job-')}"


def job_of(name: str) -> str:
    """The job of a set, by the id of the set."""
    return f"job-{name.removeprefix('set-')}" if name.startswith("set-") else ""


class Shelf:
    """One folder a job, by its id, under `place`."""

    def __init__(self, place: Path) -> None:
        self.place = place
        try:
            place.mkdir(parents=True, exist_ok=True)
            place.chmod(0o700)
        except OSError as error:
            raise OutputError(f"The folder {place} cannot be made: {error.strerror}. Name another.") from error

    def put(self, job: str, request: Mapping[str, Any], pictures: Mapping[str, bytes]) -> bool:
        """Lays a new job down, on the disk when this returns. False where there is one of that id."""
        aside = self.place / f".new-{secrets.token_hex(8)}"
        aside.mkdir()
        for name, data in {**pictures, REQUEST: encode_json(request).encode()}.items():
            _write(aside / name, data)
        try:
            aside.rename(self.place / job)
        except OSError:  # a folder that is not empty is never replaced
            shutil.rmtree(aside)
            return False
        _settle(self.place)
        return True

    def request(self, job: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads((self.place / job / REQUEST).read_text("utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found

    def picture(self, job: str, name: str) -> bytes | None:
        file = self.place / job / name
        return file.read_bytes() if file.exists() else None

    def references(self, job: str) -> list[bytes]:
        """Further pictures that a job is asked with, in order."""
        files = sorted((self.place / job).glob(f"{REFERENCE}*"))
        return [file.read_bytes() for file in files]

    def set_of(self, job: str) -> Path:
        return self.place / job / SET

    def begin(self, job: str) -> None:
        """Forgets what an earlier attempt had finished."""
        for folder in (TOLD, SET):
            shutil.rmtree(self.place / job / folder, ignore_errors=True)
        (self.place / job / TOLD).mkdir()

    def begun(self, job: str) -> bool:
        """Whether it was ever under way."""
        return (self.place / job / TOLD).exists()

    def tell(self, job: str, about: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        """One more edit is finished. files: of it, by name."""
        for file, data in files.items():
            _write(self.place / job / TOLD / file, data)
        _write(self.place / job / TOLD / "told.json", encode_json([*self.told(job), about]).encode())

    def told(self, job: str) -> list[dict[str, Any]]:
        """What is known of the edits that are finished, in the order in which they were."""
        try:
            found: list[dict[str, Any]] = json.loads((self.place / job / TOLD / "told.json").read_text("utf-8"))
        except FileNotFoundError:
            return []
        return found

    def file(self, job: str, name: str) -> Path | None:
        """A file of the set, or of an edit that is finished before the set is; None where there is none."""
        if not FILE.fullmatch(name):
            return None
        places = (self.place / job / folder / name for folder in (SET, TOLD))
        return next((place for place in places if place.is_file()), None)

    def size(self, job: str) -> int:
        """Bytes of all of its files."""
        return sum(file.stat().st_size for file in (self.place / job).rglob("*") if file.is_file())

    def remove(self, job: str) -> None:
        shutil.rmtree(self.place / job, ignore_errors=True)

    def sweep(self, known: Callable[[str], bool]) -> None:
        """Takes away what was laid down and never accepted, as a process was killed in between."""
        for folder in self.place.iterdir():
            if folder.name.startswith(".new-") or not known(folder.name):
                shutil.rmtree(folder)


def _write(file: Path, data: bytes) -> None:
    """All of it, or nothing."""
    aside = file.with_name(f".{file.name}")
    with open(aside, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(aside, file)


def _settle(folder: Path) -> None:
    """Has the disk know of a renaming in `folder`, where the system can be asked for that."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
