"""Warnings, told to the one whose request they are about."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_thread = threading.local()


@contextmanager
def heard(said: list[str]) -> Iterator[None]:
    """In it, warnings of this thread are added to `said`, where `told` is in force, each kind of ours every time."""
    _thread.said = said
    try:
        with warnings.catch_warnings():
            for category in _ours():
                warnings.simplefilter("always", category)
            yield
    finally:
        _thread.said = None


@contextmanager
def told(other: Callable[[str], None]) -> Iterator[None]:
    """For the whole process: warnings go to the request that they are about. other: hears the kind of all others.

    Their texts go nowhere else, as they may hold an instruction.
    """

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        said = getattr(_thread, "said", None)
        if said is None:
            other(category.__name__)
        elif str(message) not in said and category.__module__.startswith("ctxrep_edit"):
            said.append(str(message))

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _ours() -> list[type[Warning]]:
    from ctxrep_edit import BrokenColourProfile, OutsideItsWorld, TruncatedInstruction, Uncalibrated

    return [BrokenColourProfile, OutsideItsWorld, TruncatedInstruction, Uncalibrated]
