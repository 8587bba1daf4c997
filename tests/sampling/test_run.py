"""A run makes the pictures that it was asked for, or says who did not."""

from typing import Any

import pytest
import torch
from ctxrep_adapters.flux_kontext import FluxKontext
from PIL import Image
from plugging import Nothing
from tiny import edit

from ctxrep_edit import InputError, ModelError, PluginError, Strategy
from ctxrep_edit.plugins import catalog
from ctxrep_edit.plugins.adapter import Request


class OnePicture(FluxKontext):
    """Its arguments ask for one picture, whatever is wanted."""

    def arguments(self, pipeline: Any, request: Request) -> dict[str, Any]:
        return {**super().arguments(pipeline, request), "num_images_per_prompt": 1, "generator": request.generators[0]}


class Makes(Strategy):
    name = "makes"
    summary = "whatever it is given"

    def __init__(self, images: Any) -> None:
        self.images = images

    def sample(self, run: Any) -> Any:
        return self.images


def test_plain_pictures_are_counted(pipeline: Any, picture: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "adapter_for", lambda pipeline: OnePicture())
    message = r"The call of the adapter flux-kontext made \(1, 3, 32, 48\), but must make \(3, 3, h, w\) in \[0, 1\]\."
    with pytest.raises(PluginError, match=f"^{message}$"):
        edit(picture, pipeline=pipeline, strength=0)


@pytest.mark.parametrize(
    ("images", "made"),
    [
        (torch.zeros(2, 3, 8, 8), r"\(2, 3, 8, 8\)"),
        (torch.zeros(3, 8, 8), r"\(3, 8, 8\)"),
        ([torch.zeros(3, 8, 8)] * 3, "list"),
        (None, "NoneType"),
    ],
)
def test_what_a_strategy_makes_is_counted(pipeline: Any, picture: Image.Image, images: Any, made: str) -> None:
    message = rf"The strategy makes made {made}, but must make \(3, 3, h, w\) in \[0, 1\]\."
    with pytest.raises(PluginError, match=f"^{message}$"):
        edit(picture, pipeline=pipeline, strategy=Makes(images))


def test_pictures_that_overflowed_are_no_pictures(pipeline: Any, picture: Image.Image) -> None:
    images = torch.zeros(3, 3, 8, 8)
    images[1, 0, 0, 0] = torch.nan
    with pytest.raises(
        ModelError, match=r"^1 of 3 pictures of FluxKontextPipeline are not made of finite numbers.*dtype"
    ):
        edit(picture, pipeline=pipeline, strategy=Makes(images))


def test_a_pipeline_that_returns_no_tensor(
    pipeline: Any, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    postprocess = pipeline.image_processor.postprocess
    monkeypatch.setattr(pipeline.image_processor, "postprocess", lambda image, output_type: postprocess(image))
    message = r"FluxKontextPipeline returned a list, but must return a tensor \(n, 3, h, w\) in \[0, 1\] where"
    with pytest.raises(PluginError, match=f"^{message}"):
        edit(picture, pipeline=pipeline)


def test_a_callback_that_returns_nothing_is_named(pipeline: Any, picture: Image.Image) -> None:
    with pytest.raises(InputError, match=r"^callback_on_step_end returned None, but must return the tensors"):
        edit(picture, pipeline=pipeline, callback_on_step_end=lambda *_: None)


def test_steps_are_counted_on_over_the_rounds(pipeline: Any, picture: Image.Image) -> None:
    seen: list[tuple[int, int]] = []
    options = {"preserve": [Nothing()], "on_unfaithful": "retry", "retries": 2}
    edits = edit(picture, pipeline=pipeline, on_step=lambda *count: seen.append(count), **options)
    assert seen == [(i + 1, 4 * (i // 4 + 1)) for i in range(12)]
    assert edits.recipe["remade"] == [[0, 1, 2], [0, 1, 2]]
    assert "stopped" not in edits.recipe


@pytest.mark.parametrize("by", ["callback_on_step_end", "on_step"])
def test_stop_is_stop(pipeline: Any, picture: Image.Image, by: str) -> None:
    calls = []

    def stop(*args: Any) -> Any:
        calls.append(args)
        pipeline._interrupt = len(calls) == 2
        return args[3] if len(args) == 4 else None

    options = {"preserve": [Nothing()], "on_unfaithful": "retry", by: stop}
    edits = edit(picture, pipeline=pipeline, **options)
    assert edits.recipe["stopped"]
    assert edits.recipe["rounds"] == 0
