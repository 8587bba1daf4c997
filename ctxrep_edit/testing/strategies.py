"""The conformance kit for strategies."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ctxrep_edit.errors import PluginError
from ctxrep_edit.plugins import catalog
from ctxrep_edit.plugins.adapter import Adapter
from ctxrep_edit.plugins.contracts import Run, Strategy
from ctxrep_edit.repulsion.bank import Bank
from ctxrep_edit.repulsion.ranks import Ranks
from ctxrep_edit.settings import Repulsion, completed
from ctxrep_edit.testing.fakes import LENGTH, tiny_pipeline
from ctxrep_edit.testing.hooking import are_pictures
from ctxrep_edit.testing.running import Runner
from ctxrep_edit.testing.traces import left_behind, traces


class StrategyConformance(Runner):
    """Holds a strategy to its contract, on the tiny FLUX Kontext pipeline.

    Override `strategy`; override `pipeline` too for one that needs another pipeline. Class attributes, where the
    defaults do not fit: strength, at which it is tried (None: its own); size, steps and options as in
    `AdapterConformance`.
    """

    strength: float | None = None
    options = {"max_sequence_length": LENGTH}

    @pytest.fixture
    def strategy(self) -> Strategy:
        """The strategy under test."""
        pytest.fail("Override the fixture `strategy`: it gives an instance of yours.")

    @pytest.fixture
    def pipeline(self) -> Any:
        """What it is tried on."""
        return tiny_pipeline()

    @pytest.fixture
    def adapter(self, pipeline: Any) -> Adapter:
        """The adapter of the pipeline."""
        return catalog.adapter_for(pipeline)

    def settings(self, adapter: Adapter, strategy: Strategy) -> Repulsion:
        """What `diverse_edit` gives it where the caller says the strength alone."""
        strength = strategy.strength if self.strength is None else self.strength
        return completed(Repulsion(strength=strength, oversample=1), *([adapter.default] if strategy.repels else []))

    def moved(self, pipeline: Any, adapter: Adapter, strategy: Strategy, n: int = 3) -> tuple[Tensor, Run]:
        return self.sampled(pipeline, adapter, self.settings(adapter, strategy), strategy=strategy, seeds=range(n))

    def test_it_says_what_it_is(self, strategy: Strategy) -> None:
        has_name_and_summary(strategy)
        assert strategy.strength > 0, f"Its strength is {strategy.strength}, but 0 would not even ask it."

    def test_it_makes_pictures(self, pipeline: Any, adapter: Adapter, strategy: Strategy) -> None:
        for n in (1, 2, 3):
            are_pictures(self.moved(pipeline, adapter, strategy, n)[0], n)

    def test_the_same_seeds_give_the_same_pictures(self, pipeline: Any, adapter: Adapter, strategy: Strategy) -> None:
        (one, first), (other, second) = (self.moved(pipeline, adapter, strategy) for _ in range(2))
        assert torch.equal(one, other), "The same seeds give other pictures at a second call: draw from `run.seeds`."
        assert [*first.seeds] == [*second.seeds], "The same seeds end as other seeds at a second call."

    def test_the_candidates_are_not_the_plain_ones(self, pipeline: Any, adapter: Adapter, strategy: Strategy) -> None:
        """But for the first `run.still`, which are, bit by bit."""
        pictures, run = self.moved(pipeline, adapter, strategy)
        plain = self.run(pipeline, adapter, seeds=run.seeds)
        assert 0 <= run.still < 3, f"run.still is {run.still} of 3: a strategy that moves none is none."
        for i in range(3):
            same = torch.equal(pictures[i], plain[i])
            if i < run.still:
                assert same, f"run.still is {run.still}, but candidate {i} is not the plain one."
            else:
                assert not same, f"Candidate {i} is the plain one: nothing moved it. Count it in run.still if so meant."

    def test_what_it_notes_is_true(self, pipeline: Any, adapter: Adapter, strategy: Strategy) -> None:
        _, run = self.moved(pipeline, adapter, strategy)
        assert len(run.seeds) == 3, f"run.seeds has {len(run.seeds)} entries for 3 candidates."
        assert len({*run.seeds}) == 3, f"run.seeds is {[*run.seeds]}: each candidate has noise of its own."
        vendi = run.contextual_vendi
        assert vendi is None or all(1 - 1e-6 <= score <= 3 + 1e-6 for score in vendi), (
            f"run.contextual_vendi is {vendi}, but Vendi scores of 3 candidates are 1 to 3."
        )

    def test_it_runs_the_pipeline_through_its_run(self, pipeline: Any, adapter: Adapter, strategy: Strategy) -> None:
        """So that the progress bar and the caller's callback are served."""
        steps: list[int] = []
        settings = self.settings(adapter, strategy)
        self.run(pipeline, adapter, settings, strategy=strategy, on_step=lambda step, total: steps.append(step))
        assert steps, "No step was reported: call the pipeline with run.call()."

    def test_it_hands_on_what_others_made(self, pipeline: Any, adapter: Adapter, strategy: Strategy) -> None:
        """Of one that `repels` a set may be made in batches: `repelled` needs `run.bank`."""
        if not strategy.repels:
            return  # its sets are made in one batch
        bank = Bank()
        self.sampled(pipeline, adapter, self.settings(adapter, strategy), strategy=strategy, bank=bank)
        assert bank.handed, "It keeps run.bank to itself, so that batches know nothing of one another: hand it on."

    def test_it_hands_on_the_ranks(self, pipeline: Any, adapter: Adapter, strategy: Strategy) -> None:
        """Of one that `repels` a set may be spread over ranks: `repelled` needs `run.ranks`."""
        if not strategy.repels:
            return  # its sets are made by one process
        ranks = _Alone(None, 0, [2])
        try:
            self.sampled(pipeline, adapter, self.settings(adapter, strategy), strategy=strategy, ranks=ranks)
        except PluginError as error:
            pytest.fail(str(error))

    def test_it_leaves_no_trace(self, pipeline: Any, adapter: Adapter, strategy: Strategy) -> None:
        plain = self.run(pipeline, adapter)
        before = traces(pipeline)
        self.moved(pipeline, adapter, strategy)
        left = left_behind(before, traces(pipeline))
        assert not left, f"It leaves something on the pipeline, in {left}: take it off in a finally."
        assert torch.equal(self.run(pipeline, adapter), plain), "After it, plain pictures are others than before."

    def test_broken_off_it_leaves_no_trace(self, pipeline: Any, adapter: Adapter, strategy: Strategy) -> None:
        self.broken_off(pipeline, adapter, self.settings(adapter, strategy), strategy=strategy)


class _Alone(Ranks):
    """The one rank there is, which has nobody to hear from."""

    def gathered(self, own: Tensor) -> Tensor:
        self.crossed = True
        return own


def has_name_and_summary(thing: Any) -> None:
    """Fails where a plugin's thing cannot be listed."""
    for attribute in ("name", "summary"):
        said = getattr(thing, attribute, None)
        assert isinstance(said, str), f"{type(thing).__name__}.{attribute} is {said!r}, but must be text."
        assert said.strip(), f"{type(thing).__name__}.{attribute} is empty."
        assert "\n" not in said, f"{type(thing).__name__}.{attribute} has more than one line."
