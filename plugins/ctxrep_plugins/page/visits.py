"""What the page knows of each visitor: the edits on show and the files of their pictures. Nobody sees another's."""

from __future__ import annotations

import secrets
import shutil
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class News:
    """What a visitor is told. failed: whether it is of something that went wrong; busy: whether a job is under way."""

    note: str
    failed: bool = False
    busy: bool = False


@dataclass
class Visit:
    """One visitor's tab.

    folder: of the pictures on show. job: the one under way. made: the one that was completed last, to which `edits`
    belong. n: how many edits there are to be. asked, begun: how often was asked, and how often of that for new edits.
    edits: what the server says of them, by `index`. ticked, shown: `index` of edits. turn: held while something is
    asked for.
    """

    folder: Path
    job: str | None = None
    made: str | None = None
    n: int = 0
    asked: int = 0
    begun: int = 0
    edits: dict[int, dict[str, Any]] = field(default_factory=dict)
    ticked: Sequence[int] = ()
    shown: int | None = None
    news: News = News("")
    turn: threading.Lock = field(default_factory=threading.Lock)

    @property
    def source(self) -> Path:
        return self.folder / f"source-{self.begun}.png"

    def picture(self, edit: Mapping[str, Any]) -> Path:
        """Where the picture of an edit lies: one that is made again has another name."""
        return self.folder / f"{self.begun}-{edit['index'] + 1}-{edit['seed']}-{edit['strength']}.png"


class Visits:
    """The visitors that are there, by the hash of their session, which only their browser knows."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._lock = threading.Lock()
        self._here: dict[str, Visit] = {}

    def of(self, session: str) -> Visit:
        with self._lock:
            if session not in self._here:
                folder = self.place / secrets.token_hex(16)  # its name is in the addresses of the pictures
                folder.mkdir(parents=True)
                self._here[session] = Visit(folder)
            return self._here[session]

    def leave(self, session: str) -> Visit | None:
        """Forgets a visitor and removes the pictures."""
        with self._lock:
            gone = self._here.pop(session, None)
        if gone is not None:
            shutil.rmtree(gone.folder, ignore_errors=True)
        return gone
