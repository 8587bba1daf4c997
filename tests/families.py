"""The conformance kit for the families that ship, with what each of them is held to beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ctxrep_adapters import shared
from PIL import ImageChops

from ctxrep_edit import Adapter, Repulsion, diverse_edit
from ctxrep_edit.testing import AdapterConformance, tiny_picture
from ctxrep_edit.testing.fakes import OTHER_INSTRUCTION
from ctxrep_edit.testing.watching import layout, telling


class FamilyConformance(AdapterConformance):
    """Subclass it and define the fixture `family`, one pipeline for all tests: each leaves it as it was."""

    size = (96, 64)
    steps = 2
    tokens_of_the_source = True  # in the image stream, beside the generated ones

    @pytest.fixture(autouse=True)
    def sizes_are_small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Adapters that choose a size ask for 96 x 64 pixels instead of a megapixel."""
        monkeypatch.setattr(shared, "MEGAPIXEL", 96 * 64)

    @pytest.fixture
    def pipeline(self, family: Any) -> Any:
        return family

    def test_what_shows_the_source_comes_out_as_it_went_in(self, pipeline: Any, adapter: Adapter) -> None:
        """After every hooked block of every step: reference latents, and of the text vision tokens and templates."""
        one, other = self.watch(pipeline, adapter), self.watch(pipeline, adapter, seeds=(2, 3))
        length, made = layout(adapter, one, other)
        told = telling(adapter, one, self.watch(pipeline, adapter, instruction=OTHER_INSTRUCTION), length)
        assert self.tokens_of_the_source == (not made.all())
        for name, scope in adapter.scopes.items():
            hooked = 0
            for seen in self.watch(pipeline, adapter, self.settings(adapter, name, self.steps)).blocks:
                if seen.place[0] not in scope.blocks or seen.call:
                    continue
                moved = seen.moved(adapter.streams[seen.place[0]])
                if moved["text"].shape[1] == len(told):  # not where a cache has it from then on
                    assert not moved["text"][:, ~told].any(), f"Text that shows the source moved in the scope {name!r}."
                if moved["image"].shape[1] == len(made):  # not where a cache has the references from then on
                    assert not moved["image"][:, ~made].any(), f"References moved in the scope {name!r}."
                    hooked += 1
            assert hooked


def passes_in_turn(pipeline: Any, batch_size: int, **asked: Any) -> None:
    """Of a pool whose candidates hardly repel each other, and of those of it that wait for their turn, each comes out
    as a plain edit of its seed; also where answers hold."""
    repulsion = Repulsion(strength=1e-7, window=0.5, hold=0.3, oversample=2)
    picture, asked = tiny_picture(96, 64), {**asked, "pipeline": pipeline, "seed": 0, "steps": 4}
    pool = diverse_edit(picture, "add a hat", 3, repulsion=repulsion, batch_size=batch_size, **asked)
    plain = {edit.seed: edit for edit in diverse_edit(picture, "add a hat", 6, strength=0, **asked)}
    assert max(map(len, pool.recipe["batches"])) == batch_size
    for edit in pool:
        far = {seed: np.max(ImageChops.difference(edit.image, other.image)) for seed, other in plain.items()}
        assert far.pop(edit.seed) <= 2
        assert min(far.values()) > 20
