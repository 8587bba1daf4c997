"""The conformance kit for adapters."""

from __future__ import annotations

import copy
import functools
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ctxrep_edit.api import diverse_edit
from ctxrep_edit.errors import CtxrepError, InputError
from ctxrep_edit.imaging import to_tensor
from ctxrep_edit.plugins import catalog
from ctxrep_edit.plugins.adapter import Adapter, Part
from ctxrep_edit.sampling.calling import opaque, pictures
from ctxrep_edit.sampling.forming import Forming
from ctxrep_edit.sampling.loan import one_by_one
from ctxrep_edit.sampling.run import round_trip
from ctxrep_edit.testing.fakes import INSTRUCTION, tiny_picture
from ctxrep_edit.testing.hooking import HookConformance, are_pictures, at
from ctxrep_edit.testing.processes import imports_no_torch
from ctxrep_edit.testing.watching import pairs


class AdapterConformance(HookConformance):
    """Holds an adapter to its contract, on a tiny pipeline of its family.

    Override `pipeline`. The adapter is the installed one that claims its class; override `adapter` for one that is not
    installed. Class attributes, where the defaults do not fit:

    size: (width, height) in pixels of the edits, so that text and image tokens differ in number. steps: of the sampler,
    so that the pipeline makes at least two. options: arguments of every call, such as max_sequence_length. guided:
    arguments that switch classifier-free guidance on, where it is off otherwise.
    """

    @pytest.fixture
    def pipeline(self) -> Any:
        """A pipeline of the adapter's family with random weights, small, on the CPU, in float32."""
        pytest.fail("Override the fixture `pipeline`: it gives a tiny pipeline of the adapter's family.")

    @pytest.fixture
    def adapter(self, pipeline: Any) -> Adapter:
        """The adapter under test."""
        return catalog.adapter_for(pipeline)

    # Declarations

    def test_declarations_hold_together(self, pipeline: Any, adapter: Adapter) -> None:
        claimed = {base.__name__ for base in type(pipeline).__mro__} & set(adapter.pipelines)
        assert claimed, f"`pipelines` is {adapter.pipelines}, which does not name {type(pipeline).__name__}."
        assert adapter.default.scope in adapter.scopes, (
            f"`default.scope` is {adapter.default.scope!r}, which is none of the scopes: {', '.join(adapter.scopes)}."
        )
        transformer = adapter.transformer(pipeline)
        for attribute in adapter.streams:
            assert len(getattr(transformer, attribute, ())), f"The transformer has no list of blocks {attribute!r}."
        for name, scope in adapter.scopes.items():
            assert scope.summary, f"The scope {name!r} has no summary."
            for attribute, parts in scope.blocks.items():
                assert attribute in adapter.streams, f"The scope {name!r} names {attribute!r}, but `streams` does not."
                unknown = ", ".join(sorted(parts - set(get_args(Part))))
                assert not unknown, f"The scope {name!r} names {unknown}, but parts are {', '.join(get_args(Part))}."

    def test_importing_it_imports_no_torch(self, adapter: Adapter) -> None:
        imports_no_torch(type(adapter).__module__)

    # Pictures

    def test_strength_0_is_the_pipeline_without_us(self, pipeline: Any, adapter: Adapter) -> None:
        pipeline.set_progress_bar_config(disable=True)
        with torch.random.fork_rng([]), one_by_one(pipeline):
            torch.manual_seed(0)  # as for the first seed
            alone = opaque(pictures(pipeline, self.arguments(pipeline, adapter)).float().cpu())
        ours = self.run(pipeline, adapter)
        assert torch.equal(alone, ours), "Strength 0 gives other pictures than the pipeline called with the same."

    def test_shapes_ranges_and_dtypes(self, pipeline: Any, adapter: Adapter) -> None:
        for settings in (replace(adapter.default, strength=0.0), self.settings(adapter)):
            are_pictures(self.run(pipeline, adapter, settings), 2)
        watch = self.watch(pipeline, adapter, self.settings(adapter))
        for seen in watch.blocks:
            same = ((a.shape, a.dtype) == (b.shape, b.dtype) for a, b in pairs(seen.raw, seen.final))
            assert all(same), f"{at(seen)} changed its shape."

    def test_bfloat16(self, pipeline: Any, adapter: Adapter) -> None:
        half = copy.deepcopy(pipeline).to(torch.bfloat16)
        try:
            pictures = self.run(half, adapter, self.settings(adapter))
        except RuntimeError as error:
            if "not implemented for 'BFloat16'" in str(error):
                pytest.skip(f"This CPU does not run it: {error}")
            pytest.fail(f"In bfloat16 it fails: {error}. Make tensors in the dtype of the pipeline.")
        are_pictures(pictures, 2)

    def test_the_same_seeds_give_the_same_pictures(self, pipeline: Any, adapter: Adapter) -> None:
        for settings in (replace(adapter.default, strength=0.0), self.settings(adapter)):
            one, other = (self.run(pipeline, adapter, settings) for _ in range(2))
            assert torch.equal(one, other), (
                "The same seeds give other pictures at a second call: picture i must come from `request.generators[i]` "
                "and from nothing else that is random."
            )

    def test_n_and_order(self, pipeline: Any, adapter: Adapter) -> None:
        """Edit i of three is edit i of two, but for what other batch sizes do to the last digits."""
        three, two = self.run(pipeline, adapter, seeds=(0, 1, 2)), self.run(pipeline, adapter, seeds=(0, 1))
        are_pictures(three, 3)
        apart = torch.cdist(two.flatten(1), three.flatten(1))  # (2, 3)
        between = float(torch.cdist(three.flatten(1), three.flatten(1))[~torch.eye(3, dtype=torch.bool)].min())
        assert between > 0, "Edits of different seeds are the same picture: give each its own generator."
        for i in range(2):
            assert float(apart[i, i]) < 0.05 * between, (
                f"Edit {i} of n=2 is not edit {i} of n=3: picture i must come from `request.generators[i]` alone, in "
                "order."
            )

    def test_the_steps_that_are_asked_for(self, pipeline: Any, adapter: Adapter) -> None:
        counts = []
        for steps in (self.steps, 2 * self.steps):
            seen: list[int] = []  # how many steps there are, after each step
            self.run(pipeline, adapter, steps=steps, on_step=functools.partial(_append, seen))
            assert seen, "The pipeline does not call callback_on_step_end."
            counts.append(len(seen))
            assert {*seen} == {len(seen)}, f"The pipeline says it makes {seen[0]} steps, but made {len(seen)}."
        assert counts[0] < counts[1], f"`request.steps` is not respected: {counts[0]} steps, however many are asked."

    def test_with_and_without_a_mask(self, pipeline: Any, adapter: Adapter) -> None:
        are_pictures(self.run(pipeline, adapter, masked=True), 2)
        try:
            pictures = self.run(pipeline, adapter, masked=False)
        except InputError as error:
            if "mask" not in str(error):
                pytest.fail(f"Without a mask it says {str(error)!r}: say that a mask is needed.")
        except Exception as error:
            pytest.fail(f"Without a mask it raises {type(error).__name__}: {error}. Raise InputError if one is needed.")
        else:
            are_pictures(pictures, 2)

    def test_size_is_what_the_pipeline_makes(self, pipeline: Any, adapter: Adapter) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(F, "scaled_dot_product_attention", _no_attention)  # only the size matters
            for wide, high in ((300, 200), (200, 300)):
                width, height = adapter.size(pipeline, wide, high)
                assert (width > height) == (wide > high), f"size() makes {wide} x {high} into {width} x {height}."
            pictures = self.run(pipeline, adapter, size=(width, height), seeds=[0], steps=2)
        made = pictures.shape[3], pictures.shape[2]
        assert made == (width, height), (
            f"size() says {width} x {height}, but the pipeline makes {made[0]} x {made[1]}; the check compares there."
        )

    def test_the_autoencoder_makes_the_round_trip(self, pipeline: Any, adapter: Adapter) -> None:
        picture = to_tensor(tiny_picture(*self.size))
        try:
            made = round_trip(pipeline, picture, adapter)
        except Exception as error:
            pytest.fail(f"The checks cannot use the pipeline's autoencoder by encode() and decode(): {error}")
        assert made.shape == picture.shape

    def test_previews_become_the_pictures(self, pipeline: Any, adapter: Adapter) -> None:
        """What is foreseen after the last step is what comes out; before it, something else."""
        if type(adapter).unpacked is Adapter.unpacked:
            pytest.skip("The adapter gives no previews.")
        seen: list[Tensor] = []
        made = self.run(pipeline, adapter, on_preview=functools.partial(_foreseen, seen, max(self.size)))
        assert torch.equal(made, self.run(pipeline, adapter)), "Previews change the pictures."
        assert seen, "Nothing is foreseen: the pipeline steps no scheduler."
        for foreseen in seen:
            assert foreseen.shape == made.shape, f"unpacked() makes pictures of {tuple(foreseen.shape)}."
        far, near = ((foreseen - made).abs().mean() for foreseen in (seen[0], seen[-1]))
        assert near < 0.01 < far or near < far / 10, (
            f"After the last step unpacked() and decode() give other pictures than the pipeline does, by {near:.3f}."
        )

    def test_diverse_edit_drives_it(self, pipeline: Any, adapter: Adapter, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(catalog, "adapter_for", lambda pipeline: adapter)
        monkeypatch.setattr(adapter, "size", lambda pipeline, width, height: self.size)
        source, white = tiny_picture(80, 60), tiny_picture(80, 60).point(lambda value: 255)
        settings = self.settings(adapter)
        asked: dict[str, Any] = {
            "mask": white,
            "repulsion": settings,
            "steps": self.steps,
            "preserve": "off",
            "progress": False,
        }
        try:
            edits = diverse_edit(source, INSTRUCTION, 2, pipeline=pipeline, seed=0, **{**asked, **self.options})
        except CtxrepError as error:
            pytest.fail(f"diverse_edit cannot drive it: {error}")
        assert tuple(edits.recipe["size"]) == self.size
        assert edits.contextual_vendi is not None, "diverse_edit repelled nothing."


def _append(seen: list[int], step: int, steps: int) -> None:
    seen.append(steps)


def _foreseen(seen: list[Tensor], side: int, forming: Forming) -> None:
    seen.append(torch.cat([to_tensor(picture) for picture in forming.pictures(side)]))


def _no_attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
    """Stands for attention where only shapes matter, so that a large picture costs little."""
    if query.ndim == 4 and query.shape[1] != value.shape[1]:  # grouped queries
        value = value.repeat_interleave(query.shape[1] // value.shape[1], 1)
    same = query.shape[-2] == value.shape[-2]
    return value if same else value.mean(-2, keepdim=True).expand(*query.shape[:-1], value.shape[-1])
