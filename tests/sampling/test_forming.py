"""Previews of forming candidates: what `on_preview` is told, and that nothing else is different."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny
import tiny_joyimage
from diffusers import DDIMScheduler, JoyImageEditPipeline
from PIL import Image

from ctxrep_edit import EditSet, Forming, InputError, Repulsion, diverse_edit, load_pipeline, stream_edits

SETTINGS = Repulsion(scope="generated", strength=2.0, steps=1, anchor=True)
STEPS = 6


def previewed(picture: Image.Image, pipeline: Any, **options: Any) -> tuple[EditSet, list[tuple[Forming, list[Any]]]]:
    seen: list[tuple[Forming, list[Any]]] = []

    def look(forming: Forming) -> None:
        seen.append((forming, [*forming.pictures()]))

    options = {"steps": STEPS, "repulsion": SETTINGS, **options}
    return tiny.edit(picture, pipeline=pipeline, on_preview=look, **options), seen


def apart(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).mean())


def test_previews_become_the_edits_and_change_none(pipeline: Any, picture: Image.Image) -> None:
    edits, seen = previewed(picture, pipeline)
    assert [(forming.step, forming.steps) for forming, _ in seen] == [(i, STEPS) for i in range(1, STEPS + 1)]
    assert all(list(forming.numbers) == [0, 1, 2] for forming, _ in seen)
    for i, edit in enumerate(edits):
        distances = [apart(edit.image, pictures[i]) for _, pictures in seen]
        assert distances[-1] < 1 < distances[0]
        assert distances[-1] == min(distances)
    without = tiny.edit(picture, pipeline=pipeline, steps=STEPS, repulsion=SETTINGS)
    assert (tiny.pixels(without) == tiny.pixels(edits)).all()


def test_of_a_pool_those_that_go_on_are_shown(pipeline: Any, picture: Image.Image) -> None:
    edits, seen = previewed(picture, pipeline, oversample=2)
    assert 2 <= seen[0][0].step < STEPS  # not before the choice
    for i, edit in enumerate(edits):
        assert apart(edit.image, seen[-1][1][i]) < 1


def test_batches_say_whose_previews_they_are(pipeline: Any, picture: Image.Image) -> None:
    edits, seen = previewed(picture, pipeline, batch_size=2)
    assert [list(forming.numbers) for forming, _ in seen] == [[0, 1]] * STEPS + [[2]] * STEPS
    assert apart(edits[2].image, seen[-1][1][0]) < 1


def test_a_smaller_preview_is_decoded_smaller(pipeline: Any, picture: Image.Image) -> None:
    decoded, sizes = [], []
    decode = pipeline.vae.decode

    def counted(latents: Any, *args: Any, **options: Any) -> Any:
        decoded.append(latents.shape[-1])
        return decode(latents, *args, **options)

    def look(forming: Forming) -> None:
        if forming.step == 2:
            sizes.extend(made.size for made in forming.pictures(16))

    pipeline.vae.decode = counted
    try:
        stream = stream_edits(
            picture, tiny.WORDS, 2, pipeline=pipeline, preserve="off", progress=False, steps=3, on_preview=look
        )
        edits = stream.finish()
    finally:
        del pipeline.vae.decode
    assert all(max(size) == 16 for size in sizes)
    assert len(sizes) == 2
    assert min(decoded) < max(decoded)
    assert len(edits) == 2


def test_nothing_is_decoded_that_nobody_asks_for(pipeline: Any, picture: Image.Image) -> None:
    def counts(**options: Any) -> int:
        calls: list[Any] = []
        decode = pipeline.vae.decode
        pipeline.vae.decode = lambda *args, **more: calls.append(0) or decode(*args, **more)
        try:
            tiny.edit(picture, pipeline=pipeline, steps=3, **options)
        finally:
            del pipeline.vae.decode
        return len(calls)

    assert counts(on_preview=lambda forming: None) == counts()


def test_an_exception_ends_the_run_and_leaves_nothing(pipeline: Any, picture: Image.Image) -> None:
    def stop(forming: Forming) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tiny.edit(picture, pipeline=pipeline, on_preview=stop)
    assert "step" not in vars(pipeline.scheduler)


def test_what_cannot_be_foreseen_is_refused(pipeline: Any, picture: Image.Image) -> None:
    with pytest.raises(InputError, match="must be a function of a Forming"):
        tiny.edit(picture, pipeline=pipeline, on_preview=3)
    with pytest.raises(InputError, match="at least 16"):
        tiny.edit(picture, pipeline=pipeline, on_preview=lambda forming: forming.pictures(4))
    scheduler = pipeline.scheduler
    pipeline.scheduler = DDIMScheduler()
    try:
        with pytest.raises(InputError, match=r"on_preview: by the sigmas of DDIMScheduler"):
            tiny.edit(picture, pipeline=pipeline, on_preview=print, strength=0)
    finally:
        pipeline.scheduler = scheduler


def test_an_adapter_without_them_says_so(picture: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    joy = tiny_joyimage.pipeline(JoyImageEditPipeline)
    with pytest.raises(InputError, match=r"the adapter joyimage-edit of JoyImageEditPipeline does not say"):
        tiny.edit(picture, pipeline=joy, on_preview=print)


@pytest.mark.parametrize("model", ["kontext-nano", "sd3-nano"])
def test_the_embedded_models(model: str, picture: Image.Image) -> None:
    pipeline = load_pipeline(model, progress=False)
    seen: list[Any] = []

    def look(forming: Forming) -> None:
        if forming.step == forming.steps:
            seen.extend(forming.pictures())

    edits = diverse_edit(
        picture.resize((120, 80)), "change the light", 2, pipeline=pipeline, steps=6, seed=3, preserve="off",
        progress=False, on_preview=look,
    )  # fmt: skip
    assert all(apart(edit.image, preview) < 2 for edit, preview in zip(edits, seen, strict=True))
