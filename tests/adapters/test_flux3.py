"""FLUX.3 [klein]: a modular pipeline, on tiny real ones."""

from __future__ import annotations

from typing import Any

import families
import pytest
import tiny_flux3
from ctxrep_adapters.flux3 import Flux3

from ctxrep_edit import InputError, diverse_edit
from ctxrep_edit.testing import tiny_picture

CALL = {"steps": 2, "seed": 0, "preserve": "off", "progress": False, "width": 96, "height": 64, **tiny_flux3.OPTIONS}


@pytest.fixture(scope="module", params=tiny_flux3.CLASSES, ids=lambda cls: cls.__name__)
def family(request: pytest.FixtureRequest) -> Any:
    return tiny_flux3.pipeline(request.param)


class TestFlux3(families.FamilyConformance):
    options = {**tiny_flux3.OPTIONS}


def test_the_steps_of_a_modular_pipeline_are_counted(family: Any) -> None:
    seen: list[tuple[int, int]] = []
    edits = diverse_edit(
        tiny_picture(96, 64), "add a hat", 2, pipeline=family, on_step=lambda *step: seen.append(step), **CALL
    )
    assert seen == [(1, 2), (2, 2)]
    assert edits.contextual_vendi is not None


def test_without_progress_nothing_is_printed(family: Any, capfd: pytest.CaptureFixture[str]) -> None:
    diverse_edit(tiny_picture(96, 64), "add a hat", 2, pipeline=family, **CALL)
    assert not "".join(capfd.readouterr()).strip()


def test_its_options_are_those_of_its_blocks(family: Any) -> None:
    with pytest.raises(InputError, match=r"has no option 'max_sequence_lenght': did you mean max_sequence_length\?"):
        diverse_edit(tiny_picture(96, 64), "add a hat", 2, pipeline=family, **CALL, max_sequence_lenght=3)


def test_with_an_upsampler_all_text_is_instruction() -> None:
    pipeline = tiny_flux3.pipeline(tiny_flux3.CLASSES[0], upsampler=True)
    assert Flux3().instruction(pipeline, {"prompt": "add a hat"}) is None
