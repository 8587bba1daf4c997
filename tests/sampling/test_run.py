"""A run makes the pictures that it was asked for, or says who did not."""

from typing import Any

import pytest
import torch
from ctxrep_adapters.flux_kontext import FluxKontext
from PIL import Image
from tiny import edit

from ctxrep_edit import PluginError, Strategy
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


def test_a_pipeline_that_returns_no_tensor(
    pipeline: Any, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    postprocess = pipeline.image_processor.postprocess
    monkeypatch.setattr(pipeline.image_processor, "postprocess", lambda image, output_type: postprocess(image))
    message = r"FluxKontextPipeline returned a list, but must return a tensor \(n, 3, h, w\) in \[0, 1\] where"
    with pytest.raises(PluginError, match=f"^{message}"):
        edit(picture, pipeline=pipeline)


def test_what_a_pipeline_draws_from_torchs_own_generator_follows_from_the_seed(
    pipeline: Any, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = pipeline.encode_prompt

    def noisy(**options: Any) -> Any:
        words, *others = encode(**options)
        return words + torch.randn_like(words), *others

    monkeypatch.setattr(pipeline, "encode_prompt", noisy)
    state = torch.random.get_rng_state()
    one, two, other = (edit(picture, pipeline=pipeline, strength=0, seed=seed).images for seed in (0, 0, 5))
    assert [image.tobytes() for image in one] == [image.tobytes() for image in two]
    assert [image.tobytes() for image in one] != [image.tobytes() for image in other]
    assert torch.equal(torch.random.get_rng_state(), state)
