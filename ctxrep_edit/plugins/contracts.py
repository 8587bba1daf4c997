"""What strategies, checks, embedders, exporters and embedded models are: the contracts of the small plugins.

The contract of a pipeline family, `Adapter`, is in `adapter.py`. Pictures are float32 tensors (n, 3, h, w) in [0, 1].
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    import torch

    from ctxrep_edit.faithfulness.case import Case
    from ctxrep_edit.plugins.adapter import Adapter, Words
    from ctxrep_edit.repulsion.bank import Bank
    from ctxrep_edit.repulsion.ranks import Ranks
    from ctxrep_edit.results.editset import EditSet
    from ctxrep_edit.settings import Repulsion

StepCallback = Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]
"""`callback_on_step_end` of diffusers: (pipeline, step, timestep, tensors) to the tensors to go on with."""


class Call(Protocol):
    """Runs the pipeline once: pictures (n, 3, h, w). `changes` replace arguments; `after_step` follows each step."""

    def __call__(self, *, after_step: StepCallback | None = None, **changes: Any) -> torch.Tensor: ...


@dataclass
class Run:
    """What a strategy is given to make n candidates.

    pipeline: loaded; its scheduler and progress bar are copies lent for this run. adapter: the pipeline's. call: runs
    the pipeline; the user's progress bar and callbacks are part of it. arguments: what `call` hands to the pipeline,
    one generator per candidate among them. seeds: of the candidates' noise; of a pool, the first n. settings:
    `settings.strength` is > 0; a pool is the core's affair, and `oversample` 1.
    instruction: what the adapter's `instruction` gives, to be handed to `repelled`: the text tokens that carry the
    instruction, bool (tokens,), a function that finds them in a call of the transformer, or None where not known.
    bank: where candidates may be made again, those that are kept, to repel the new ones from, and a place to note the
    new ones for the next time; where a pool passes in turns, those of the turns before; None elsewhere. A strategy may
    ignore it, but for a pool.

    ranks: of torch.distributed, over which the candidates are spread, to be handed to `repelled`; None where all are
    here.

    Further batches of a pool go on from where they were: there `call` computes nothing of the window again, and what a
    strategy changes in its steps is what it was.

    churn: of each candidate that starts, the share of its noise that is drawn anew in each step after the window; empty
    where there is none. The core does that around the strategy, to which `settings.churn` is 0.

    A strategy may set still: how many of the first candidates are the plain ones, unmoved; contextual_vendi: Vendi
    score of the contextual tokens before and after, each 1 to n; and seeds, if it chose others.
    """

    pipeline: Any
    adapter: Adapter
    call: Call
    arguments: Mapping[str, Any]
    seeds: Sequence[int]
    settings: Repulsion
    instruction: Words
    still: int = 0
    contextual_vendi: tuple[float, float] | None = None
    bank: Bank | None = None
    ranks: Ranks | None = None
    churn: list[float] = field(default_factory=list)

    @property
    def n(self) -> int:
        return len(self.seeds)


class Strategy(ABC):
    """What moves the n candidates of a set apart while they form. With strength 0 it is not asked at all."""

    name: ClassVar[str]
    summary: ClassVar[str]
    """One line for people."""
    strength: ClassVar[float] = 1.0
    """Used where the caller says "auto" and neither the model nor its family states another for this strategy."""
    repels: ClassVar[bool] = False
    """Whether it reads more of `run.settings` than the strength; where not, a caller who gives `scope` or `repulsion`
    is told so."""
    extra_seeds: ClassVar[int] = 0
    """How many seeds behind those of its candidates it may start others from. `more` begins beyond them."""

    @abstractmethod
    def sample(self, run: Run) -> torch.Tensor:
        """Makes the candidates: `run.call()` with something done before, around or after each step of it.

        Returns (n, 3, h, w) in [0, 1], candidate i from `run.seeds[i]`. The same seeds give the same pictures. Whatever
        it hangs on the pipeline is gone when it returns, or raises.
        """


@dataclass(frozen=True)
class Verdict:
    """What one check says of one edit.

    kept: False is an objection; None: the check was not asked of such an edit. measure: what was measured, such as
    "LPIPS outside the edit". value: of that measure, finite. bound: what it may be at most, or at least where the check
    says so. Both are None where nothing was measured. reason: one sentence. details: whatever else the check knows, as
    JSON takes it.
    """

    kept: bool | None
    measure: str
    value: float | None
    bound: float | None
    reason: str
    details: Mapping[str, Any] = field(default_factory=dict)
    fault: str = "changed"

    @classmethod
    def not_asked(cls, measure: str, why: str, details: Mapping[str, Any] | None = None) -> Verdict:
        """Of a check that has nothing to measure in an edit. why: half a sentence."""
        return cls(None, measure, None, None, f"not asked: {why}", details or {})

    @property
    def objects(self) -> bool:
        """Whether the check objects to the edit."""
        return self.kept is not None and not self.kept

    @property
    def word(self) -> str:
        """ "kept", "not asked", or what the fault is."""
        return "not asked" if self.kept is None else "kept" if self.kept else self.fault

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Check(ABC):
    """Judges whether edits are faithful: whether they kept what they should, or did what was asked."""

    name: ClassVar[str]
    summary: ClassVar[str]
    """One line for people."""

    def prepare(self) -> None:  # noqa: B027 (most checks need nothing)
        """Called before the run: what is missing is said while nothing is lost yet. Raises a CtxrepError."""

    @abstractmethod
    def verdicts(self, case: Case) -> Sequence[Verdict]:
        """One verdict per edit, in order. The others may matter: what most of them leave alone, one should too."""


class Embedder(ABC):
    """A feature space in which the Vendi score of a set of pictures is measured."""

    name: ClassVar[str]
    summary: ClassVar[str]
    """One line for people."""
    apart: ClassVar[float | None] = None
    """One minus the cosine of two rows, above which their pictures are different edits, and not one edit twice; None
    where nothing was found out about that. See `EditSet.distinct_in`."""

    @abstractmethod
    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w) in [0, 1] to (n, features), floating point; only the directions of the rows count."""


class Exporter(ABC):
    """Writes a finished set in one form: pictures, a sheet, a gallery, a sidecar file."""

    name: ClassVar[str]
    summary: ClassVar[str]
    """One line for people."""

    @abstractmethod
    def export(self, edits: EditSet, folder: Path) -> None:
        """Writes files into `folder`, which is empty and its own; the core moves them to the user's when all is done.

        What it raises is reported as OutputError, and nothing of the set is written.
        """


@dataclass(frozen=True)
class EmbeddedModel:
    """A model that ships with a plugin.

    folder: a diffusers pipeline folder. summary: one line for people. knows: whether an instruction belongs to what
    the model was trained on; advice: what to tell someone whose instruction does not. checks: names of checks that are
    asked by default beside `DEFAULT_CHECKS`, of instructions that it knows.
    """

    name: str
    folder: Path
    summary: str
    knows: Callable[[str], bool]
    advice: str
    checks: tuple[str, ...] = ()
