"""Z-Image Omni, on a tiny real pipeline."""

from __future__ import annotations

from typing import Any

import families
import pytest
import tiny_zimage
import torch
from ctxrep_adapters.z_image import ZImageOmni

from ctxrep_edit import Adapter


@pytest.fixture(scope="module")
def family() -> Any:
    return tiny_zimage.pipeline()


class TestZImage(families.FamilyConformance):
    options = {"max_sequence_length": tiny_zimage.LENGTH}

    def test_it_moves_the_tokens_of_its_scope_alone(self, pipeline: Any, adapter: Adapter) -> None:
        """Told from the padding of each piece: references see the noise before the first hooked block, in a refiner."""
        watch = self.watch(pipeline, adapter)
        words = self.words(pipeline, adapter, watch)
        made = adapter.generated(watch.call)
        pieces = [len(piece) for piece in watch.call["cap_feats"][0]]
        assert pieces == [7, len("change the light") + 15, 2]
        assert len(words) == 32 + 32 + 32
        assert words.nonzero().flatten().tolist() == list(range(33, 33 + len("change the light")))
        assert made.nonzero().flatten().tolist() == list(range(96, 2 * 96))  # 12 x 8 tokens of the source come first
        for name, scope in adapter.scopes.items():
            settings = self.settings(adapter, name, self.steps)
            seen = [each for each in self.watch(pipeline, adapter, settings).blocks if each.place[0] in scope.blocks]
            chosen = scope.chosen("layers", 3)
            for each in seen:
                moved, parts = each.moved("joint"), scope.blocks["layers"]
                hooked = each.place[1] in chosen
                for stream, places, part in (("text", words, "instruction"), ("image", made, "generated")):
                    some = moved[stream][:2]  # the rows that follow the instruction come first
                    assert some[:, places].all() == (hooked and part in parts)
                    assert not some[:, ~places].any()
                assert not moved["text"][2:].any()
                assert not moved["image"][2:].any()

    def test_what_shows_the_source_comes_out_as_it_went_in(self) -> None:
        """Part of the test above."""


def test_timesteps_fall() -> None:
    adapter = ZImageOmni()
    assert adapter.timestep({"t": torch.tensor([0.0])}) > adapter.timestep({"t": torch.tensor([0.4])})
