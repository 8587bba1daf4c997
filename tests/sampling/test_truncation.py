"""Instructions that are longer than a model reads: said once, in words of ours, before the run."""

from __future__ import annotations

import logging
import threading
import warnings
from typing import Any

import pytest
from PIL import Image
from tiny import LENGTH, edit

from ctxrep_edit import TruncatedInstruction
from ctxrep_edit.sampling.truncation import told_once, unread

LONG = " ".join(f"change the light{'' if i % 2 else ' of it'}" for i in range(9)) + " into evening"
LOGGERS = ("diffusers.pipelines.flux.pipeline_flux_kontext", "transformers.tokenization_utils_base")


class Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def heard():
    handler, loggers = Heard(), [logging.getLogger(name) for name in LOGGERS]
    for logger in loggers:
        logger.addHandler(handler)
    yield handler.lines
    for logger in loggers:
        logger.removeHandler(handler)


def test_the_words_that_are_not_read_are_said_once(pipeline: Any, picture: Image.Image, heard: list[str]) -> None:
    before = [list(logging.getLogger(name).filters) for name in LOGGERS]
    with pytest.warns(TruncatedInstruction) as caught:
        edit(picture, instruction=LONG, pipeline=pipeline, n=2)
    (warning,) = caught
    assert warning.filename == __file__
    text = str(warning.message)
    assert text.startswith("FluxKontextPipeline does not read the whole instruction: CLIP (")
    assert text.count("into evening'") == 2
    assert f"; T5 ({LENGTH} tokens) leaves out '" in text
    assert not [line for line in heard if "truncated" in line or "Token indices" in line]
    assert [list(logging.getLogger(name).filters) for name in LOGGERS] == before


def test_an_instruction_that_fits_touches_nothing(pipeline: Any, picture: Image.Image) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        edit(picture, pipeline=pipeline, n=1)


def test_what_is_left_out_begins_with_a_word(pipeline: Any) -> None:
    read = pipeline.tokenizer_2(LONG, truncation=True, max_length=8, return_offsets_mapping=True)["offset_mapping"]
    end = max(end for _, end in read)
    left = unread(pipeline, {"prompt": LONG, "max_sequence_length": 8})["T5 (8 tokens)"]
    assert LONG.endswith(left)
    assert LONG[: -len(left)].endswith(" ")
    assert len(LONG) - len(left) <= end + 1
    assert unread(pipeline, {"prompt": None, "max_sequence_length": 8}) == {}
    assert "T5 (8 tokens)" not in unread(pipeline, {"prompt": LONG, "prompt_2": "light", "max_sequence_length": 8})


def test_other_threads_are_heard(pipeline: Any, heard: list[str]) -> None:
    logger = logging.getLogger(LOGGERS[0])

    def say() -> None:
        logger.warning("something was truncated because of another run")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncatedInstruction)
        quiet = told_once(pipeline, [{"prompt": LONG, "max_sequence_length": LENGTH}])
    for _ in range(2):  # as often as the pipeline runs
        with quiet():
            say()
    assert heard == []
    with quiet():
        logger.warning("something else")
        other = threading.Thread(target=say)
        other.start()
        other.join()
    assert heard == ["something else", "something was truncated because of another run"]


def test_the_pipelines_tokenizers_are_left_as_they_are(pipeline: Any) -> None:
    """Another thread may be tokenizing with them."""
    cut = {"padding": "max_length", "truncation": True, "max_length": 16}
    pipeline.tokenizer_2(LONG, **cut)
    backend = pipeline.tokenizer_2.backend_tokenizer
    before = backend.padding, backend.truncation
    assert unread(pipeline, {"prompt": LONG, "max_sequence_length": 8})
    assert (backend.padding, backend.truncation) == before
