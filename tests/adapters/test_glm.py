"""GLM-Image that edits, on a tiny real transformer of it."""

from __future__ import annotations

from typing import Any

import families
import pytest
import tiny_glm
import torch
from torch import Tensor

from ctxrep_edit import Adapter, Repulsion, adapter_for, repelled
from ctxrep_edit.testing import tiny_picture
from ctxrep_edit.testing.running import PLAIN


@pytest.fixture(scope="module")
def family() -> Any:
    return tiny_glm.pipeline()


class TestGlm(families.FamilyConformance):
    def test_what_shows_the_source_comes_out_as_it_went_in(self, pipeline: Any, adapter: Adapter) -> None:
        """It is in a cache, which the repelled run fills as the plain one does."""
        kept: list[list[Tensor]] = []

        def note(module: Any, args: Any, call: dict[str, Any]) -> None:
            if call["kv_caches"][0].mode == "skip":
                kept.append([torch.cat([*cache.k_caches, *cache.v_caches]) for cache in call["kv_caches"].caches])

        handle = pipeline.transformer.register_forward_pre_hook(note, with_kwargs=True)
        try:
            for settings in (PLAIN, self.settings(adapter, "generated", self.steps)):
                self.run(pipeline, adapter, settings)
        finally:
            handle.remove()
        assert len(kept) == 2 * self.steps
        for caches in kept[1:]:
            assert all(torch.equal(one, other) for one, other in zip(caches, kept[0], strict=True))


def test_what_fills_the_cache_is_no_step(family: Any) -> None:
    modes: list[str] = []
    moving: list[bool] = []
    settings = Repulsion(scope="generated", strength=1.0, steps=1)
    with repelled(family, settings, particles=1) as run:

        def note(module: Any, args: Any, call: dict[str, Any]) -> None:
            modes.append(call["kv_caches"][0].mode)
            moving.append(run.repelling)

        handle = family.transformer.register_forward_pre_hook(note, with_kwargs=True)
        try:
            family(prompt="add 'a' hat", image=[tiny_picture(96, 64)], height=64, width=96, num_inference_steps=2)
        finally:
            handle.remove()
    assert modes == ["write", "read", "skip", "read", "skip"]
    assert moving == [False, True, False, False, False]
    assert adapter_for(family).name == "glm-image"
