"""Previews of forming edits: when they are made, and as plain data on their way to a client."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxrep_plugins.server.parameters import Form
from ctxrep_plugins.server.pictures import encoded

if TYPE_CHECKING:
    from ctxrep_edit import Forming

SIDE = 512
"""Pixels of the longer side of a preview, at most."""


@dataclass(frozen=True)
class Preview:
    """One of edit `index`, `number` counted from 0: a file as base64, and its (width, height) in pixels."""

    index: int
    number: int
    b64_json: str
    size: tuple[int, int]


def previewing(times: int, form: Form, tell: Callable[[Preview], None]) -> Callable[[Forming], None]:
    """An `on_preview` that tells of each edit `times` times, evenly over the steps; the first is late where it is late
    known which candidates go on. What is made again is not shown again."""
    shown = Counter[int]()
    form = Form(form.format, form.compression, form.opaque)

    def on_preview(forming: Forming) -> None:
        due = sum(forming.step >= forming.steps * k / (times + 1) for k in range(1, times + 1))
        if forming.step == forming.steps or all(shown[number] >= due for number in forming.numbers):
            return
        for number, picture in zip(forming.numbers, forming.pictures(SIDE), strict=True):
            if shown[number] < due:
                tell(Preview(number, shown[number], encoded(picture, form), picture.size))
                shown[number] += 1

    return on_preview
