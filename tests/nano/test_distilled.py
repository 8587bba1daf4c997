"""How a model is distilled: what the student is shown, and the folder that it becomes."""

from pathlib import Path

import ctxrep_plugins.nano as nano
import numpy as np
import pytest
import torch
from ctxrep_plugins.nano import models
from ctxrep_plugins.nano.models.model import Model, save
from ctxrep_plugins.nano.training import distilled
from ctxrep_plugins.nano.training.distilled import Ways, levels, step_loss
from diffusers import AutoencoderTiny

from ctxrep_edit import default_settings, load_pipeline

PICTURES = [np.random.default_rng(0).integers(0, 256, (128, 160, 3), dtype=np.uint8)]


@pytest.fixture(scope="module")
def taught() -> tuple[Model, AutoencoderTiny]:
    """The student before it is trained, when it is its teacher."""
    model = models.untrained("sd3-nano-turbo")
    return model, model.load(nano.WEIGHTS / "sd3-nano")


@pytest.fixture
def ways(taught: tuple[Model, AutoencoderTiny], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ways:
    monkeypatch.setattr(distilled, "CHUNK", 3)
    return Ways(PICTURES, *taught, levels(taught[0]), 6, tmp_path, 0)


def test_a_student_is_asked_where_its_sampler_calls_it(taught: tuple[Model, AutoencoderTiny], ways: Ways) -> None:
    scheduler = load_pipeline("sd3-nano").scheduler
    scheduler.set_timesteps(4)
    assert torch.equal(levels(taught[0]), scheduler.sigmas)
    steps = ways.batch(3, np.random.default_rng(1))
    assert set(steps.sigma.tolist()) <= set(scheduler.sigmas[:-1].tolist())


def test_a_student_that_is_right_goes_the_way_of_its_teacher(taught: tuple[Model, AutoencoderTiny], ways: Ways) -> None:
    model, _ = taught
    states, sources, phrases = (part[:, 1] if part.ndim == 5 else part[1] for part in ways.chunks[0])
    state, source = states[0][None].float(), sources[None].float()
    for finer, first, last in zip(distilled.FINER, ways.sigmas[:-1], ways.sigmas[1:], strict=True):
        stride = (last - first) / finer
        for step in range(finer):
            sigma = (first + step * stride)[None]
            with torch.no_grad():
                state = state + stride * model.velocity(state, source, sigma, phrases[None].long())
    assert (state - states[-1].float()).abs().max() < 0.02  # the teacher's, kept in half precision


def test_one_step_leads_to_the_teachers_next_state(ways: Ways) -> None:
    steps = ways.batch(3, np.random.default_rng(2))
    places = [ways.sigmas.tolist().index(sigma) for sigma in steps.sigma.tolist()]
    gone = steps.sigma - ways.sigmas[[place + 1 for place in places]]
    for place, after in zip(places, steps.state - gone[:, None, None, None] * steps.velocity, strict=True):
        next_ones = [state for chunk in ways.chunks for state in chunk[0][place + 1].float()]
        assert any(torch.allclose(after, state, atol=1e-4) for state in next_ones if state.shape == after.shape)


def test_ways_are_made_once(ways: Ways, tmp_path: Path, taught: tuple[Model, AutoencoderTiny]) -> None:
    class Asleep:
        def velocity(self, *args: object) -> None:
            raise AssertionError("the teacher was asked again")

    again = Ways(PICTURES, Asleep(), taught[1], ways.sigmas, 6, tmp_path, 0)
    assert all(torch.equal(a, b) for a, b in zip(again.chunks[1], ways.chunks[1], strict=True))


def test_the_loss_is_that_of_the_step(ways: Ways) -> None:
    steps = ways.batch(3, np.random.default_rng(3))

    class Known:
        def velocity(self, state: torch.Tensor, *args: object) -> torch.Tensor:
            assert state is steps.state
            return steps.velocity + off

    off = 0.0
    assert step_loss(Known(), steps, torch.Generator()) == 0
    off = 0.5
    assert step_loss(Known(), steps, torch.Generator()) == pytest.approx(0.25)


def test_its_folder_holds_the_transformer_alone_and_shares_the_rest(
    taught: tuple[Model, AutoencoderTiny], tmp_path: Path
) -> None:
    model, vae = taught
    save(model, vae, tmp_path / "sd3-nano-turbo")
    assert sorted(path.name for path in (tmp_path / "sd3-nano-turbo").iterdir()) == [
        "ctxrep.json", "model_index.json", "transformer",
    ]  # fmt: skip
    (tmp_path / "sd3-nano").symlink_to(nano.WEIGHTS / "sd3-nano")
    loaded, whole = load_pipeline(tmp_path / "sd3-nano-turbo", device="cpu"), load_pipeline("sd3-nano")
    for name in ("transformer", "text_encoder_3", "vae"):
        pairs = zip(getattr(loaded, name).parameters(), getattr(whole, name).parameters(), strict=True)
        assert all(torch.equal(ours, theirs) for ours, theirs in pairs), name
    assert default_settings(loaded) == default_settings(load_pipeline("sd3-nano-turbo"))
