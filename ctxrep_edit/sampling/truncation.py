"""Instructions that are longer than a model reads."""

from __future__ import annotations

import copy
import logging
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, partial
from typing import Any

from ctxrep_edit.sampling.calling import parameters

MESSAGES = ("truncated because", "Token indices sequence length is longer")


class TruncatedInstruction(UserWarning):
    """The instruction is longer than the model reads: some of its words have no effect."""


def told_once(pipeline: Any, calls: Sequence[Mapping[str, Any]]) -> Callable[[], AbstractContextManager[None]]:
    """Warns with TruncatedInstruction, before the run, which words of the prompt are not read. In the context that it
    returns, to be entered as often as the pipeline runs, what diffusers and transformers log of that in this thread is
    left out. Where all is read nothing is touched.

    calls: arguments of the pipeline's, for each prompt.
    """
    copied = cache(copy.deepcopy)  # which takes a tenth of a second and more for each tokenizer
    left = [f"{who} leaves out {words!r}" for call in calls for who, words in unread(pipeline, call, copied).items()]
    if not left:
        return nullcontext
    what = "; ".join(dict.fromkeys(left))
    message = f"{type(pipeline).__name__} does not read the whole instruction: {what}. Say it in fewer words."
    warnings.warn(message, TruncatedInstruction, stacklevel=5)
    return partial(_unlogged, pipeline)


def unread(pipeline: Any, arguments: Mapping[str, Any], copied: Callable[[Any], Any] = copy.deepcopy) -> dict[str, str]:
    """By encoder, such as "CLIP (77 tokens)", the end of the prompt that it does not read, where there is one.

    Of the tokenizers that diffusers cuts with: a CLIP reads what it states itself, a T5 the `max_sequence_length` of
    the pipeline's call. They keep how they cut from call to call, so that copies are asked, by `copied`: the pipeline
    may be at work in another thread.
    """
    longest = arguments.get("max_sequence_length", parameters(pipeline).get("max_sequence_length"))
    left: dict[str, str] = {}
    for name, tokenizer in getattr(pipeline, "components", {}).items():
        kind = type(tokenizer).__name__.partition("Tokenizer")[0]
        prompt = arguments.get(name.replace("tokenizer", "prompt")) or arguments.get("prompt")
        most = {"CLIP": getattr(tokenizer, "model_max_length", None), "T5": longest}.get(kind)
        if not name.startswith("tokenizer") or not isinstance(prompt, str) or not most or not tokenizer.is_fast:
            continue
        own = copied(tokenizer)
        read = own(prompt, truncation=True, max_length=most, return_offsets_mapping=True)["offset_mapping"]
        words = _from_word(prompt, max(end for _, end in read))
        if words:
            left[f"{kind} ({most} tokens)"] = words
    return left


def _from_word(text: str, start: int) -> str:
    """The rest of the text from `start`, or from the beginning of the word that it falls into."""
    while 0 < start < len(text) and not any(letter.isspace() for letter in text[start - 1 : start + 1]):
        start -= 1
    return text[start:].strip()


@contextmanager
def _unlogged(pipeline: Any) -> Iterator[None]:
    """Drops those messages of this thread; loggers are the process's, so a filter is put there and taken off again."""
    thread = threading.get_ident()

    def others(record: logging.LogRecord) -> bool:
        return record.thread != thread or not any(words in record.getMessage() for words in MESSAGES)

    modules = {cls.__module__ for cls in type(pipeline).__mro__ if cls.__module__.startswith("diffusers.")}
    loggers = [logging.getLogger(name) for name in (*modules, "transformers.tokenization_utils_base")]
    for logger in loggers:
        logger.addFilter(others)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(others)
