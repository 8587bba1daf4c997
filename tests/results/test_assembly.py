"""From candidates to the set: sizes of edits and source."""

from __future__ import annotations

from typing import Any

from PIL import Image
from tiny import edit


def test_the_source_has_the_size_of_the_edits(pipeline: Any, picture: Image.Image) -> None:
    plain = edit(picture, pipeline=pipeline, n=1)
    assert plain.source.size == plain[0].image.size != picture.size
    mask = Image.new("L", picture.size, 0)
    mask.paste(255, (0, 0, picture.width // 2, picture.height))
    restored = edit(picture, pipeline=pipeline, n=1, mask=mask, restore=True)
    assert restored[0].image.size == picture.size
    assert restored.source.tobytes() == picture.convert("RGB").tobytes()
    everything = edit(picture, pipeline=pipeline, n=1, mask=Image.new("L", picture.size, 255), restore=True)
    assert everything.source.size == everything[0].image.size != picture.size  # nothing to restore
