"""What workers are given to do in tests: functions of a module, as they are sent to another process."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ctxrep_plugins.server import job_making, making
from ctxrep_plugins.server.refusals import Refused

from ctxrep_edit import ModelError

made = making.make_set
make_job = job_making.make_job


def nothing(device: str | None) -> None:
    """A pipeline that is quickly loaded."""


def until_cancelled(pipeline: Any, tell: Any, on_step: Any) -> None:
    while True:
        on_step(0, 1)
        time.sleep(0.01)


def number(i: int, pipeline: Any, tell: Any, on_step: Any) -> int:
    tell(i)
    return i


def dies(file: Path, times: int, pipeline: Any, tell: Any, on_step: Any) -> int:
    """As by kill -9, `times` times, after it has told something; then the number of attempts."""
    with open(file, "a", encoding="utf-8") as stream:
        stream.write("x")
    tell(len(file.read_text()))
    if len(file.read_text()) <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return len(file.read_text())


def hangs(file: Path, times: int, pipeline: Any, tell: Any, on_step: Any) -> int:
    with open(file, "a", encoding="utf-8") as stream:
        stream.write("x")
    if len(file.read_text()) <= times:
        time.sleep(60)
    return len(file.read_text())


def breaks_late(*asked: Any) -> None:
    made(*asked)
    raise ZeroDivisionError("secret")


def length(data: bytes, pipeline: Any, tell: Any, on_step: Any) -> int:
    return len(data)


def wrong(error: Exception, pipeline: Any, tell: Any, on_step: Any) -> None:
    raise error


def no_model(device: str | None) -> None:
    raise ModelError("no such model")


def hung(file: Path, device: str | None) -> None:
    """A load that never ends, on the second device, while the file is there."""
    while device == "second" and file.exists():
        time.sleep(0.05)


def killed(device: str | None) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def short(pipeline: Any, tell: Any, on_step: Any) -> None:
    time.sleep(0.2)


def breaks(*asked: Any) -> None:
    raise ZeroDivisionError("secret")


def late(*asked: Any) -> None:
    raise Refused("It took too long.", status=504, code="time_limit")


@contextmanager
def dropping(module: Any, *numbers: int) -> Iterator[None]:
    """In it the edits of these numbers fail their checks, and are dropped, beside those that really fail."""

    def edited(image: bytes, prompt: str, n: int, tell: Any, **options: Any) -> Any:
        made = real(image, prompt, n, lambda edit: edit.index in numbers or tell(edit), **options)
        kept, failed = (tuple(edit for edit in made if (edit.index in numbers) == bad) for bad in (False, True))
        return replace(made, edits=kept, dropped=(*made.dropped, *failed))

    real, module.edited = module.edited, edited
    try:
        yield
    finally:
        module.edited = real


def job_without_its_second(*asked: Any) -> Any:
    with dropping(job_making, 1):
        return make_job(*asked)


def job_of_nothing(*asked: Any) -> Any:
    with dropping(job_making, 0, 1):
        return make_job(*asked)


def set_of_nothing(*asked: Any) -> Any:
    with dropping(making, 0, 1):
        return made(*asked)
