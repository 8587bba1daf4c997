"""The conformance kit for the families that ship, with what each of them is held to beside it."""

from __future__ import annotations

from typing import Any

import pytest
from ctxrep_adapters import shared

from ctxrep_edit import Adapter
from ctxrep_edit.testing import AdapterConformance
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
