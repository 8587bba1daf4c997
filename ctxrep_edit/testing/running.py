"""Runs a tiny pipeline as `diverse_edit` does, down to the pictures as tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from ctxrep_edit.plugins import catalog
from ctxrep_edit.plugins.adapter import Adapter, Request
from ctxrep_edit.plugins.contracts import Run, Strategy
from ctxrep_edit.repulsion.bank import Bank
from ctxrep_edit.repulsion.ranks import Ranks
from ctxrep_edit.sampling import particles
from ctxrep_edit.sampling.forming import Foresight, OnPreview
from ctxrep_edit.sampling.pool import Pool
from ctxrep_edit.sampling.run import OnStep, sample
from ctxrep_edit.settings import Repulsion
from ctxrep_edit.testing.fakes import INSTRUCTION, tiny_picture
from ctxrep_edit.testing.traces import left_behind, traces
from ctxrep_edit.testing.watching import Watch, watched

PLAIN = Repulsion(strength=0.0)


class Runner:
    """What the kits of adapters and strategies share.

    size: (width, height) in pixels of the edits that are made. steps: of the sampler. options: further arguments of the
    pipeline's call.
    """

    size: tuple[int, int] = (64, 48)
    steps: int = 4
    options: Mapping[str, Any] = {}

    def arguments(
        self,
        pipeline: Any,
        adapter: Adapter,
        *,
        seeds: Sequence[int] = (0, 1),
        instruction: str = INSTRUCTION,
        size: tuple[int, int] | None = None,
        steps: int | None = None,
        masked: bool = True,
        options: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The arguments of one call of the pipeline, as `diverse_edit` puts them together."""
        picture = tiny_picture(80, 60)
        mask = Image.new("L", picture.size, 255) if masked else None
        generators = particles.generators([*seeds])
        request = Request(picture, instruction, generators, size or self.size, steps or self.steps, mask)
        asked = adapter.arguments(pipeline, request)
        return {**asked, **(self.options if options is None else options), "output_type": "pt"}

    def sampled(
        self,
        pipeline: Any,
        adapter: Adapter,
        settings: Repulsion = PLAIN,
        *,
        strategy: Strategy | None = None,
        seeds: Sequence[int] = (0, 1),
        n: int | None = None,
        on_step: OnStep | None = None,
        on_preview: OnPreview | None = None,
        bank: Bank | None = None,
        ranks: Ranks | None = None,
        **asked: Any,
    ) -> tuple[Tensor, Run]:
        """The pictures (n, 3, h, w) in [0, 1], plain where nothing else is said, and what the strategy noted.

        n: how many of the candidates, one per seed, are kept; None: all. bank, ranks: of the `Run`.
        """
        arguments = self.arguments(pipeline, adapter, seeds=seeds, **asked)
        chosen = strategy or catalog.STRATEGIES.get("contextual")
        foresight = None
        if on_preview is not None:
            size, numbers = asked.get("size") or self.size, range(len(seeds) if n is None else n)
            foresight = Foresight(adapter, pipeline, numbers, size, size, on_preview)
        pool = None
        if n is not None:
            bank = Bank(noting=False) if bank is None else bank
            pool = Pool(adapter, pipeline, settings, [*seeds], n, n, bank)
        images, run, _ = sample(
            pipeline, adapter, chosen, settings, arguments, [*seeds], part=pool, progress=False, on_step=on_step,
            bank=bank, ranks=ranks, foresight=foresight,
        )  # fmt: skip
        return images, run

    def run(self, pipeline: Any, adapter: Adapter, settings: Repulsion = PLAIN, **asked: Any) -> Tensor:
        """The pictures alone; `asked` is what `sampled` takes."""
        return self.sampled(pipeline, adapter, settings, **asked)[0]

    def watch(self, pipeline: Any, adapter: Adapter, settings: Repulsion = PLAIN, **asked: Any) -> Watch:
        """What the blocks returned in a run."""
        with watched(pipeline, adapter) as watch:
            self.run(pipeline, adapter, settings, on_step=watch.on_step, **asked)
        return watch

    def broken_off(
        self, pipeline: Any, adapter: Adapter, settings: Repulsion, *, block: Any = None, strategy: Any = None
    ) -> None:
        """A run that ends in an exception: after a step, or when `block` is done. The pipeline must be as before."""

        def stop(*_: Any) -> None:
            raise KeyboardInterrupt

        plain = self.run(pipeline, adapter)
        before = traces(pipeline)
        with ExitStack() as hooks:
            if block is not None:
                hooks.callback(block.register_forward_hook(stop).remove)
            on_step = None if block is not None else stop
            hooks.enter_context(pytest.raises(KeyboardInterrupt))
            self.run(pipeline, adapter, settings, strategy=strategy, on_step=on_step)
        left = left_behind(before, traces(pipeline))
        assert not left, f"After a run that was broken off, something is left on the pipeline, in {left}."
        same = torch.equal(self.run(pipeline, adapter), plain)
        assert same, "After a run that was broken off, plain pictures are others than before."
