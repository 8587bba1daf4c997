"""Editing pipelines of diffusers without a contextual space, which no adapter can drive."""

from __future__ import annotations

from collections.abc import Iterable

from ctxrep_edit import hookimpl

ctxrep_api = "1.0"
CROSS = (
    "the blocks of {} return image tokens alone and read the text by cross-attention, so that no text token sees the "
    "picture and there is no contextual space to repel in"
)


@hookimpl
def ctxrep_refused() -> Iterable[tuple[str, str]]:
    return [
        ("ChronoEditPipeline", CROSS.format("Wan")),
        ("Kandinsky5I2IPipeline", CROSS.format("Kandinsky 5")),
        ("SanaSprintImg2ImgPipeline", CROSS.format("Sana")),
    ]
