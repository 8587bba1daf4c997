"""FLUX.1 beside Kontext: the adapters of three pipelines, on tiny real ones."""

from __future__ import annotations

from typing import Any

import families
import pytest
import tiny
import tiny_flux1

from ctxrep_edit import InputError, diverse_edit
from ctxrep_edit.testing import tiny_picture


@pytest.fixture(scope="module", params=tiny_flux1.CLASSES, ids=lambda cls: cls.__name__)
def family(request: pytest.FixtureRequest) -> Any:
    return tiny_flux1.pipeline(request.param)


class TestFlux1(families.FamilyConformance):
    steps = 4  # of which those of image to image leave some out
    options = {"max_sequence_length": tiny.LENGTH}
    tokens_of_the_source = False

    @pytest.fixture(autouse=True)
    def guides(self, family: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Fill is distilled for guidance, and takes no negative prompt."""
        if "Fill" not in type(family).__name__:
            monkeypatch.setattr(type(self), "guided", {"negative_prompt": "it", "true_cfg_scale": 3.0})


@pytest.mark.parametrize("cls", [tiny_flux1.FluxFillPipeline, tiny_flux1.FluxInpaintPipeline])
def test_a_mask_is_needed(cls: type) -> None:
    with pytest.raises(InputError, match="edits inside a mask and was given none: give mask="):
        diverse_edit(tiny_picture(), "change it", 2, pipeline=tiny_flux1.pipeline(cls), preserve="off")
