"""A pipeline on loan: one run at a time, nothing of the process touched, and given back as it was found."""

import threading
from typing import Any

import pytest
import tiny
import tiny_sd3
import torch
from diffusers import StableDiffusion3ControlNetInpaintingPipeline
from PIL import Image
from tiny import SOME

from ctxrep_edit import PipelineBusy, RepulsionError, attach, detach
from ctxrep_edit.sampling.loan import one_by_one, seeded


@pytest.fixture
def meanwhile(pipeline: Any, picture: Image.Image) -> Any:
    """Runs something in another thread, while an edit stands after its first step: what it raised, or None."""

    def run(other: Any, **options: Any) -> BaseException | None:
        raised: list[BaseException] = []

        def work() -> None:
            try:
                other()
            except Exception as error:
                raised.append(error)

        def pause(step: int, steps: int) -> None:
            if step == 1:
                thread = threading.Thread(target=work)
                thread.start()
                thread.join()

        tiny.edit(picture, pipeline=pipeline, on_step=pause, **options)
        return raised[0] if raised else None

    return run


@pytest.mark.parametrize("strength", [0, 1.0])
@pytest.mark.parametrize("theirs", [0, 1.0])
def test_one_run_at_a_time(pipeline: Any, picture: Image.Image, meanwhile: Any, strength: float, theirs: float) -> None:
    alone = tiny.pixels(tiny.edit(picture, pipeline=pipeline, strength=strength))
    error = meanwhile(lambda: tiny.edit(picture, pipeline=pipeline, strength=theirs), strength=strength)
    assert isinstance(error, PipelineBusy)
    assert "at work in another call" in str(error)
    assert (tiny.pixels(tiny.edit(picture, pipeline=pipeline, strength=strength)) == alone).all()


def test_pipelines_that_share_a_transformer_are_one(pipeline: Any, picture: Image.Image, meanwhile: Any) -> None:
    twin = type(pipeline)(**pipeline.components)
    twin.register_to_config(_name_or_path=pipeline.config["_name_or_path"])
    assert isinstance(meanwhile(lambda: tiny.edit(picture, pipeline=twin)), PipelineBusy)


def test_another_pipeline_is_free(picture: Image.Image, meanwhile: Any) -> None:
    other = tiny.tiny_pipeline()
    options = {"max_sequence_length": tiny.LENGTH, "steps": 2, "width": tiny.SIDE, "height": tiny.SIDE}
    assert meanwhile(lambda: tiny.edit(picture, pipeline=other, **options)) is None


def test_a_plain_edit_is_not_made_under_a_repulsion(pipeline: Any, picture: Image.Image) -> None:
    run = attach(pipeline, SOME, particles=3)
    with pytest.raises(RepulsionError, match="attached to this pipeline already, which would be part of these edits"):
        tiny.edit(picture, pipeline=pipeline, strength=0)
    detach(run)
    assert len(tiny.edit(picture, pipeline=pipeline, strength=0)) == 3


def test_torchs_own_generator_is_not_touched(pipeline: Any, picture: Image.Image, meanwhile: Any) -> None:
    drawn: list[torch.Tensor] = []
    torch.manual_seed(3)
    wanted = torch.randn(4)
    torch.manual_seed(3)
    meanwhile(lambda: drawn.append(torch.randn(4)))
    assert torch.equal(drawn[0], wanted)  # another thread draws what it would have drawn


@pytest.mark.parametrize("draw", [torch.randn, torch.rand])
def test_what_names_no_generator_is_seeded_in_this_thread_alone(draw: Any) -> None:
    state = torch.random.get_rng_state()
    with seeded(5):
        one = draw(2, 3)
        like = torch.randn_like(one)
        own = draw(3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(own, draw(3, generator=torch.Generator().manual_seed(1)))
    assert torch.equal(one, draw(2, 3, generator=torch.Generator().manual_seed(5)))
    assert not torch.equal(like, one)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_only_a_pipeline_that_draws_past_its_generators_is_seeded(picture: Image.Image) -> None:
    pipeline = tiny_sd3.pipeline(StableDiffusion3ControlNetInpaintingPipeline)
    mask = Image.new("L", picture.size, 255)
    options = {"pipeline": pipeline, "mask": mask, "n": 1, "strength": 0, "width": 64, "height": 64, "steps": 1}
    state = torch.random.get_rng_state()
    one, two = (tiny.pixels(tiny.edit(picture, seed=4, **options)) for _ in range(2))
    assert (one == two).all()
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("before", [False, True])
def test_an_autoencoder_that_two_share_is_as_it_was_when_both_are_done(pipeline: Any, before: bool) -> None:
    pipeline.vae.use_slicing = before
    one, two = one_by_one(pipeline), one_by_one(pipeline)
    one.__enter__()
    two.__enter__()
    assert pipeline.vae.use_slicing
    one.__exit__(None, None, None)
    assert pipeline.vae.use_slicing
    two.__exit__(None, None, None)
    assert pipeline.vae.use_slicing is before
    pipeline.vae.use_slicing = False


def test_a_pipeline_that_seeds_torch_itself_leaves_its_generator_as_it_was() -> None:
    before = torch.get_rng_state()
    with seeded(5):
        torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), before)
