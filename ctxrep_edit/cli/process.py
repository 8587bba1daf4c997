"""What the command line sets for its whole process, while it runs."""

from __future__ import annotations

import errno
import io
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any


class _Terminated(BaseException):
    """The process is told to end. Nothing that catches an Exception, or waits for Ctrl-C, keeps it."""


@contextmanager
def process() -> Iterator[None]:
    """Warnings are one line; what the terminal cannot show is escaped; SIGTERM and SIGHUP end the process only once
    everything set aside is cleared away, with the exit code that a shell expects. All is put back afterwards."""
    with ExitStack() as before:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                before.callback(_escape, stream, stream.errors or "strict")
                _escape(stream, "backslashreplace")
        before.callback(setattr, warnings, "formatwarning", warnings.formatwarning)
        warnings.formatwarning = _Once()
        if threading.current_thread() is threading.main_thread():
            for number in {signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}:  # Windows has only the first
                if signal.getsignal(number) == signal.SIG_DFL:  # under nohup it is ignored, and stays so
                    before.callback(signal.signal, number, signal.SIG_DFL)
                    signal.signal(number, _end)
        try:
            yield
        except _Terminated as end:
            raise SystemExit(128 + end.args[0]) from None
        except OSError as error:
            if error.errno != errno.ENOSPC or error.filename is not None:
                raise
            raise SystemExit("Error: There is no room for what is printed: No space left on device.") from None


class _Once:
    """A warning as one line, without the line of code that gave it; nothing where it was said before."""

    def __init__(self) -> None:
        self.said: set[str] = set()

    def __call__(self, message: object, *_: object, **__: object) -> str:
        text = f"Warning: {message}\n"
        told = text in self.said
        self.said.add(text)
        return "" if told else text


def _escape(stream: io.TextIOWrapper, errors: str) -> None:
    """What becomes of letters that the stream cannot encode. Nothing, where it is closed already."""
    with suppress(OSError, ValueError):
        stream.reconfigure(errors=errors)


def _end(number: int, frame: Any) -> None:
    raise _Terminated(number)
