"""Logs, one JSON object a line on stderr: never pictures, instructions, keys, or texts that may hold them."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

import structlog


def logger(stream: TextIO | None = None) -> Any:
    """Where to log, by `log.info(event, name=value)`. stream: None for stderr."""
    return structlog.wrap_logger(
        structlog.PrintLogger(stream or sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper("iso", utc=True),
            structlog.processors.JSONRenderer(ensure_ascii=True),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )


def fault(error: BaseException) -> dict[str, Any]:
    """An error as a log may tell it: its kind and where, not its message."""
    if isinstance(error, Fault):
        return dict(error.about)
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    where = [f"{frame.filename.rpartition('/site-packages/')[2]}:{frame.lineno} {frame.name}" for frame in frames]
    return {"error": type(error).__name__, "where": where}


class Fault(Exception):
    """What went wrong in another process, as `fault` tells it."""

    def __init__(self, about: Mapping[str, Any]) -> None:
        super().__init__(about)
        self.about = about


@contextmanager
def told_by_libraries(log: Any, *loggers: logging.Logger) -> Iterator[None]:
    """In it, `log` is told what the libraries below find wrong."""
    listener = _Told(log)
    for other in loggers:
        other.addHandler(listener)
    try:
        yield
    finally:
        for other in loggers:
            other.removeHandler(listener)


class _Told(logging.Handler):
    """Hears the kind and place of what libraries say, as a text of theirs may quote a client."""

    def __init__(self, log: Any) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        raised = record.exc_info[1] if record.exc_info else None
        where = {"where": [f"{record.module}:{record.lineno}"]} if raised is None else fault(raised)
        self._log.warning("library", logger=record.name, severity=record.levelname, **where)
