"""`diverse_edit` as its users meet it: what comes out, and what is left alone."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from conftest import both
from PIL import Image
from tiny import edit, pixels

from ctxrep_edit import CtxrepError, InputError, Repulsion, Unfaithful, errors, load_pipeline
from ctxrep_edit.faithfulness.judgement import DEFAULT_CHECKS
from ctxrep_edit.testing import edit_set

# What comes out


def test_repulsion_changes_the_pictures_and_strength_0_does_not(pipeline: Any, picture: Image.Image) -> None:
    plain, moved = (edit(picture, pipeline=pipeline, strength=strength) for strength in (0, "auto"))
    assert not np.array_equal(pixels(plain), pixels(moved))
    assert plain.contextual_vendi is None
    before, after = moved.contextual_vendi or (0, 0)
    assert 1 <= before < after <= 3
    assert {entry.strength for entry in plain} == {0.0}
    assert [entry.strength for entry in moved] == [0.0, 1.5, 1.5]  # the first stays where it is
    assert plain.images[0] == moved.images[0]
    assert {
        entry.strength for entry in edit(picture, pipeline=pipeline, repulsion=Repulsion(eta=3.0, anchor=False))
    } == {None}


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


def test_half_precision(folder: Path, picture: Image.Image) -> None:
    pipeline = load_pipeline(folder, device="cpu", dtype=torch.bfloat16, progress=False)
    edits = edit(picture, pipeline=pipeline, preserve="auto", n=2)
    assert edits.contextual_vendi is not None


def test_all_errors_are_of_one_tree() -> None:
    assert issubclass(InputError, CtxrepError)
    assert issubclass(InputError, ValueError)


@pytest.mark.parametrize("name", errors.__all__)
def test_an_error_from_another_process_says_the_same(name: str) -> None:
    """As it comes from a pool, pickled."""
    kind = getattr(errors, name)
    error = kind("why", edit_set(2)) if kind is Unfaithful else kind("why")
    error.add_note("where")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.__notes__) == (kind, "why", ["where"])
    assert kind is not Unfaithful or [entry.seed for entry in again.edits] == [7, 8]


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
