"""Logs, one JSON object a line on stderr: never pictures, instructions, keys, or texts that may hold them."""

from __future__ import annotations

import logging
import sys
import traceback
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
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    where = [f"{frame.filename.rpartition('/site-packages/')[2]}:{frame.lineno} {frame.name}" for frame in frames]
    return {"error": type(error).__name__, "where": where}
