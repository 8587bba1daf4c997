"""The candidates of a run, and what is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

from ctxrep_edit.faithfulness.case import Case
from ctxrep_edit.faithfulness.judgement import judge
from ctxrep_edit.plugins.contracts import Check, Verdict
from ctxrep_edit.repulsion.bank import Bank
from ctxrep_edit.sampling.asked import Policy
from ctxrep_edit.sampling.repeats import Distances


@dataclass
class Candidates:
    """images: (n, 3, h, w) in [0, 1]; seeds, strengths (None: by the raw eta): one per candidate. case: to judge them
    by. checks: that do. contextual_vendi: of the last batch, with all that it was repelled from. seconds: of sampling.
    batches: which were made together at first. remade: which were made again, by round. stopped: whether the caller
    ended it, so that pictures are unfinished. bank: what they repel further ones by. still: how many of the first are
    plain. known: (k, features), by `repeats.layout`, of pictures that are there already, which none should repeat."""

    images: Tensor
    seeds: list[int]
    strengths: list[float | None]
    case: Case
    checks: Sequence[Check]
    still: int = 0
    contextual_vendi: tuple[float, float] | None = None
    seconds: float = 0.0
    batches: list[list[int]] = field(default_factory=list)
    remade: list[list[int]] = field(default_factory=list)
    stopped: bool = False
    bank: Bank | None = None
    known: Tensor | None = None

    @cached_property
    def verdicts(self) -> list[dict[str, Verdict]]:
        """One for each candidate, beside the others that are there: judged when first asked for."""
        return judge(self.case, self.checks)

    @property
    def unfaithful(self) -> list[int]:
        return [i for i, said in enumerate(self.verdicts) if any(verdict.objects for verdict in said.values())]

    @cached_property
    def distances(self) -> Distances:
        """How far the pictures differ, from those that are known, too."""
        return Distances.by_layout(self.images, self.known)

    def again(self, policy: Policy) -> list[int]:
        """Those that are to be made again, if any round is left."""
        unfaithful = self.unfaithful if policy.on_unfaithful == "retry" else ()
        if policy.distinct != "retry" or self.distances.agreed:
            return [*unfaithful]
        new = sorted({i for some in self.remade for i in some})
        return sorted({*unfaithful, *self.distances.repeats(last=new)})
