"""The part of the adapters' kit that looks at what happens in the transformer's blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ctxrep_edit.plugins.adapter import Adapter
from ctxrep_edit.settings import Repulsion
from ctxrep_edit.testing.fakes import INSTRUCTION, OTHER_INSTRUCTION, SHORT_INSTRUCTION
from ctxrep_edit.testing.running import Runner
from ctxrep_edit.testing.traces import left_behind, traces
from ctxrep_edit.testing.watching import Place, Seen, Watch, following, layout, rows_that_differ, telling

MOST_IDLE = 1  # marked tokens that do not depend on the instruction: the one that starts every text


class HookConformance(Runner):
    """Where repulsion moves tokens and where it does not, and that it leaves no trace. See `AdapterConformance`."""

    guided: Mapping[str, Any] | None = None

    def settings(self, adapter: Adapter, scope: str | None = None, steps: int = 1) -> Repulsion:
        """The adapter's own, with no candidate standing still."""
        return replace(
            adapter.default,
            scope=scope or adapter.default.scope,
            strength=1.0,
            steps=steps,
            anchor=False,
            oversample=1,
            hold=0.0,
        )

    def test_every_scope_changes_the_pictures(self, pipeline: Any, adapter: Adapter) -> None:
        plain = self.run(pipeline, adapter)
        for name in adapter.scopes:
            pictures = self.run(pipeline, adapter, self.settings(adapter, name))
            are_pictures(pictures, 2)
            assert not torch.equal(pictures, plain), f"Repulsion in the scope {name!r} changes nothing in the pictures."

    def test_detached_the_pipeline_is_as_it_was(self, pipeline: Any, adapter: Adapter) -> None:
        plain = self.run(pipeline, adapter)
        before = traces(pipeline)
        for name in adapter.scopes:
            self.run(pipeline, adapter, self.settings(adapter, name))
            left = left_behind(before, traces(pipeline))
            assert not left, f"Attached in the scope {name!r} and detached, something is left, in {left}."
        assert torch.equal(self.run(pipeline, adapter), plain), "Attached and detached, plain pictures are others."

    def test_an_exception_after_a_step_leaves_no_trace(self, pipeline: Any, adapter: Adapter) -> None:
        self.broken_off(pipeline, adapter, self.settings(adapter, steps=self.steps))

    def test_an_exception_in_a_block_leaves_no_trace(self, pipeline: Any, adapter: Adapter) -> None:
        settings = self.settings(adapter)
        attribute, index = _chosen(pipeline, adapter, str(settings.scope))[-1]
        block = getattr(adapter.transformer(pipeline), attribute)[index]
        self.broken_off(pipeline, adapter, settings, block=block)

    def test_a_pool_is_given_row_by_row(self, pipeline: Any, adapter: Adapter) -> None:
        """The transformer computes some rows of a batch at a time: the anchor among them comes out as a plain edit,
        also where its answers to the others hold for some steps."""
        anchored = replace(self.settings(adapter), anchor=True)
        asked: dict[str, Any] = {"seeds": (0, 1, 2, 3, 4), "options": {**self.options, **(self.guided or {})}}
        plain = self.run(pipeline, adapter, **asked)
        between = float(torch.cdist(plain.flatten(1), plain.flatten(1))[0, 1:].min())
        for settings in (anchored, replace(anchored, steps=None, window=1.0, hold=1.0)):
            pictures, run = self.sampled(pipeline, adapter, settings, n=2, **asked)
            are_pictures(pictures, 2)
            assert run.seeds[0] == 0, f"Of a pool the seeds {[*run.seeds]} were kept, without the anchor's."
            assert float((pictures[0] - plain[0]).norm()) < 0.05 * between, (
                "In a pool the plain first edit is another: `rows` must give a call of the transformer for some rows "
                "of its batch, and leave what has no batch as it is."
            )

    def test_it_moves_in_its_steps_and_blocks_alone(self, pipeline: Any, adapter: Adapter) -> None:
        steps = self.watch(pipeline, adapter).steps - 1
        assert steps > 0, f"The pipeline makes one step of the {self.steps} asked for: raise the class attribute steps."
        for name in adapter.scopes:
            chosen = _chosen(pipeline, adapter, name)
            watch = self.watch(pipeline, adapter, self.settings(adapter, name, steps))
            for seen in watch.blocks:
                if any(stream is None for stream in seen.raw):
                    continue
                moved = any(tokens.any() for tokens in seen.moved(adapter.streams[seen.place[0]]).values())
                wanted = seen.step < steps and seen.place in chosen
                if moved and not wanted:
                    pytest.fail(
                        f"The scope {name!r} moved tokens at {at(seen)}, which is outside of its steps or blocks."
                    )
                if wanted and seen.call == 0 and not moved:
                    pytest.fail(f"The scope {name!r} moved nothing at {at(seen)}, which is one of its blocks.")

    def test_it_moves_the_tokens_of_its_scope_alone(self, pipeline: Any, adapter: Adapter) -> None:
        """Padding and reference tokens stay put bit by bit, unless the scope names them."""
        one, other = self.watch(pipeline, adapter), self.watch(pipeline, adapter, seeds=(2, 3))
        text, generated = layout(adapter, one, other)
        words = self.words(pipeline, adapter, one)
        words = torch.ones(text, dtype=torch.bool) if words is None else words
        assert words.shape == (text,), f"instruction() marks {tuple(words.shape)} tokens, but there are {text}."
        where = {"instruction": words, "padding": ~words}, {"generated": generated, "reference": ~generated}
        for name, scope in adapter.scopes.items():
            for seen in self.watch(pipeline, adapter, self.settings(adapter, name)).blocks:
                parts = scope.blocks.get(seen.place[0], frozenset())
                moved = seen.moved(adapter.streams[seen.place[0]])
                if seen.step or seen.call or not moved or seen.place not in _chosen(pipeline, adapter, name):
                    continue
                for tokens, known in zip((moved["text"], moved["image"]), where, strict=True):
                    for part, places in known.items():
                        _moved_or_not(tokens, places, part, part in parts, f"in the scope {name!r} at {at(seen)}")

    def test_the_instruction_is_what_is_marked(self, pipeline: Any, adapter: Adapter) -> None:
        """A token that is the same whatever the words is none of them, and fewer words are fewer tokens."""
        one, other = self.watch(pipeline, adapter), self.watch(pipeline, adapter, instruction=OTHER_INSTRUCTION)
        words = self.words(pipeline, adapter, one)
        if words is None:
            pytest.skip("instruction() says that it is not known which tokens carry the instruction.")
        idle = words & ~telling(adapter, one, other, len(words))
        assert idle.sum() <= MOST_IDLE, (
            f"instruction() marks {int(idle.sum())} tokens that are the same whatever the instruction, from token "
            f"{int(idle.nonzero()[0])} on: those of a template or of the source picture are not to be marked."
        )
        short = self.watch(pipeline, adapter, instruction=SHORT_INSTRUCTION)
        fewer = self.words(pipeline, adapter, short, instruction=SHORT_INSTRUCTION)
        assert fewer is not None, "instruction() knows the tokens of one instruction and not those of another."
        assert fewer.sum() < words.sum(), (
            f"instruction() marks {int(words.sum())} tokens of {INSTRUCTION!r} and {int(fewer.sum())} of "
            f"{SHORT_INSTRUCTION!r}: padding is not to be marked."
        )

    def words(self, pipeline: Any, adapter: Adapter, watch: Watch, **asked: Any) -> Tensor | None:
        """What the adapter marks in the run that was watched; `asked` is what `arguments` takes."""
        given = adapter.instruction(pipeline, self.arguments(pipeline, adapter, **asked))
        words = given(watch.call) if callable(given) else given
        if words is not None:
            assert words.dtype == torch.bool, f"instruction() gives {words.dtype}, but must give bool."
            assert words.any(), "instruction() marks no token."
        return words

    def test_guidance_moves_the_rows_that_follow_the_instruction(self, pipeline: Any, adapter: Adapter) -> None:
        """What guidance has the model say without the instruction stays put bit by bit, in every block."""
        options = {**self.options, **(self.guided or {})}
        plain = self.watch(pipeline, adapter, options=options)
        rows = following(plain, self.watch(pipeline, adapter, options=options, instruction=OTHER_INSTRUCTION))
        if all(call.all() for call in rows):
            assert self.guided is None, f"{self.guided} does not switch guidance on: every row follows the instruction."
            pytest.skip("Guidance is off: name the arguments that switch it on in the class attribute `guided`.")
        moved = self.watch(pipeline, adapter, self.settings(adapter), options=options)
        for seen, before in _first_step(moved, plain):
            follows = rows[seen.call]  # (batch,)
            assert not rows_that_differ(seen.final, before.final)[~follows].any(), (
                f"At {at(seen)} rows moved that do not follow the instruction: `guidance` is {adapter.guidance!r}, but "
                f"the rows that follow it are {follows.tolist()} in call {seen.call}."
            )
        changed = torch.stack(
            [
                rows_that_differ(seen.raw, seen.final)[rows[seen.call]].any()
                for seen in moved.blocks
                if rows[seen.call].any()
            ]
        )
        assert changed.any(), "With guidance nothing moves in the rows that follow the instruction."


def are_pictures(pictures: Tensor, n: int) -> None:
    """Fails where they are not n pictures."""
    assert pictures.ndim == 4, f"The pictures are {tuple(pictures.shape)}, but must be (n, 3, h, w)."
    assert pictures.shape[:2] == (n, 3), f"The pictures are {tuple(pictures.shape)}, but must be ({n}, 3, h, w)."
    assert pictures.isfinite().all(), "There are numbers in the pictures that are not finite."
    low, high = float(pictures.min()), float(pictures.max())
    assert 0 <= low <= high <= 1, f"The pictures' values are {low:.3f} to {high:.3f}, but must be in [0, 1]."


def at(seen: Seen) -> str:
    """Which call of which block, for messages."""
    return f"{seen.place[0]}[{seen.place[1]}] in step {seen.step}"


def _chosen(pipeline: Any, adapter: Adapter, name: str) -> list[Place]:
    """The blocks in which a scope repels."""
    transformer, scope = adapter.transformer(pipeline), adapter.scopes[name]
    return [
        (attribute, i)
        for attribute in scope.blocks
        for i in scope.chosen(attribute, len(getattr(transformer, attribute)))
    ]


def _moved_or_not(moved: Tensor, places: Tensor, part: str, wanted: bool, where: str) -> None:
    """moved: bool (batch, tokens). places: bool (tokens,) of one part."""
    assert moved.shape[1] == len(places), f"The text stream is not {moved.shape[1]} tokens long {where}: see `streams`."
    some = moved.any(0)[places]  # (tokens of the part,)
    if wanted:
        assert some.all(), f"{int((~some).sum())} of {len(some)} {part} tokens did not move {where}."
    else:
        assert not some.any(), f"{int(some.sum())} of {len(some)} {part} tokens moved {where}, but are not in scope."


def _first_step(moved: Watch, plain: Watch) -> Iterator[tuple[Seen, Seen]]:
    return ((a, b) for a, b in zip(moved.blocks, plain.blocks, strict=True) if a.step == 0)
