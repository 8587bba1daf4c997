"""Errors of a pipeline's own call that come of the options which it was handed through."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ctxrep_edit.errors import InputError
from ctxrep_edit.plugins.adapter import Adapter
from ctxrep_edit.sampling.batches import out_of_memory
from ctxrep_edit.sampling.calling import CALLBACK, pictures

OF_VALUES = AttributeError, LookupError, OverflowError, RuntimeError, TypeError, ValueError
"""What code raises that was given a value which it cannot do with."""
LIBRARIES = {"ctxrep_edit", "diffusers", "numpy", "PIL", "tokenizers", "torch", "transformers"}


@contextmanager
def blamed(pipeline: Any, adapter: Adapter, options: Mapping[str, Any]) -> Iterator[None]:
    """In it, what the pipeline's call raises, or the adapter about its words, is an InputError that names the options,
    if any, and has it as its cause.

    Other errors are raised as they are: those of a strategy or a callback, and of memory that runs out.
    """
    try:
        yield
    except OF_VALUES as error:
        names = ", ".join(name for name in options if name != CALLBACK)
        if not names or out_of_memory(error) or not _of_the_call(pipeline, adapter, error):
            raise
        raise InputError(
            f"{type(pipeline).__name__} cannot do with what it was given as {names}: {type(error).__name__}: "
            f"{str(error).removesuffix('.')}. Mend or leave out what it speaks of."
        ) from error


def _of_the_call(pipeline: Any, adapter: Adapter, error: Exception) -> bool:
    """Whether it comes from within the pipeline's call, or the adapter's look at the words, and from nobody else's code
    there."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    calls = pictures.__code__, type(adapter).instruction.__code__
    first = next((i for i, frame in enumerate(frames) if frame.f_code in calls), None)
    if first is None or type(error).__module__ != "builtins":  # ours, or a library's own
        return False
    theirs = {type(of).__module__.partition(".")[0] for of in (pipeline, adapter)}
    within = {str(frame.f_globals.get("__name__")).partition(".")[0] for frame in frames[first:]}
    return within <= (LIBRARIES | theirs) - {"__main__"}
