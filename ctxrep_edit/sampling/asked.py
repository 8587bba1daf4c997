"""What a caller asks for, checked before anything is loaded or run: one clear InputError each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from PIL import Image

from ctxrep_edit.errors import InputError
from ctxrep_edit.faithfulness.lpips_weights import ensure_weights
from ctxrep_edit.imaging import read_image
from ctxrep_edit.plugins.adapter import Adapter
from ctxrep_edit.plugins.contracts import Check, Strategy
from ctxrep_edit.plugins.profiles import settings_for
from ctxrep_edit.repulsion.ranks import Ranks
from ctxrep_edit.repulsion.words import checked_words
from ctxrep_edit.sampling.churn import can_churn
from ctxrep_edit.sampling.options import rows_of_their_own
from ctxrep_edit.sampling.traces import left_trace
from ctxrep_edit.settings import Repulsion, completed, is_count

if TYPE_CHECKING:
    from ctxrep_edit.plugins.adapter import Words

OnUnfaithful = Literal["flag", "drop", "raise", "retry"]
ROUNDED = 1.01  # times: aspects that differ by no more are one
BankKind = Literal["auto", "memory", "disk", "off"]
Distinct = Literal["count", "retry"]


def check_said(instruction: str, n: int, steps: int | None) -> None:
    if not isinstance(instruction, str) or not instruction.strip():
        raise InputError(f"The instruction is {instruction!r}: say in words what to change, such as 'make it autumn'.")
    if any("\ud800" <= letter <= "\udfff" for letter in instruction):
        raise InputError(f"The instruction {instruction!r} is not valid Unicode: type it anew, in a UTF-8 terminal.")
    if not is_count(n):
        raise InputError(f"n is {n!r}, but must be a whole number of edits, at least 1.")
    if steps is not None and not is_count(steps):
        raise InputError(f"steps is {steps!r}, but must be a whole number of sampling steps, at least 1.")


def check_switches(**switches: Any) -> None:
    for name, value in switches.items():
        if not isinstance(value, bool):
            raise InputError(f"{name} is {value!r}, but must be True or False.")


def check_told(on_step: Any, on_preview: Any) -> None:
    if on_step is not None and not callable(on_step):
        raise InputError(f"on_step is {on_step!r}, but must be a function of (step, steps).")
    if on_preview is not None and not callable(on_preview):
        raise InputError(f"on_preview is {on_preview!r}, but must be a function of a Forming.")


def check_references(pictures: Sequence[Any], pipeline: Any, adapter: Adapter) -> None:
    """Raises InputError where there are more than the pipeline takes."""
    if len(pictures) > adapter.references:
        most = f"at most {adapter.references} pictures" if adapter.references else "no picture"
        raise InputError(
            f"references: {type(pipeline).__name__} takes {most} beside the one to edit, but {len(pictures)} were "
            "given: leave out the others."
        )


@dataclass(frozen=True)
class Policy:
    """What becomes of edits that fail a check, of edits that repeat another, and in how many rounds these are made
    again, where they are; as `diverse_edit` takes them."""

    on_unfaithful: OnUnfaithful = "flag"
    distinct: Distinct = "count"
    retries: int = 2

    @property
    def rounds(self) -> int:
        """How many times candidates may be made again."""
        return self.retries if "retry" in (self.on_unfaithful, self.distinct) else 0

    def checked(self, checks: Sequence[Check], n: int, options: Mapping[str, Any]) -> Policy:
        """Itself, with what tells edits apart fetched, where that is needed. Raises InputError."""
        for name, value, known in (
            ("on_unfaithful", self.on_unfaithful, get_args(OnUnfaithful)),
            ("distinct", self.distinct, get_args(Distinct)),
        ):
            if value not in known:
                raise InputError(f"{name} is {value!r}, but must be one of {', '.join(known)}.")
        if not is_count(self.retries):
            raise InputError(f"retries is {self.retries!r}, but must be a whole number of rounds, at least 1.")
        if self.on_unfaithful != "flag" and not checks:
            raise InputError(
                f"on_unfaithful is {self.on_unfaithful!r}, but no check is asked: leave preserve='off' or this out."
            )
        rows = rows_of_their_own(options, n)
        if self.rounds and rows:
            raise InputError(
                f"{rows[0]} has a row for each edit, but a retry makes fewer: give one row, or do not retry."
            )
        if self.distinct == "retry":
            ensure_weights()
        return self


def check_pool(settings: Repulsion, n: int, options: Mapping[str, Any], adapter: Adapter) -> None:
    if settings.oversample > 1 and adapter.batch is not None:
        raise InputError(
            f"oversample is {settings.oversample}, but pipelines of {adapter.name} make at most {adapter.batch} at "
            "once: take oversample=1."
        )
    rows = rows_of_their_own(options, n)
    if settings.oversample > 1 and rows:
        raise InputError(
            f"{rows[0]} has a row for each edit, but with oversample={settings.oversample} more candidates start: give "
            "one row, or oversample=1."
        )


def words_given(mask: Any, options: Mapping[str, Any]) -> Words:
    """The text tokens that carry an instruction given as embeddings."""
    if mask is None:
        return None
    embeds = options.get("prompt_embeds")
    if embeds is None:
        raise InputError(
            "instruction_mask says which tokens of prompt_embeds are words, but none are given: leave it out."
        )
    return checked_words(mask, "instruction_mask")


def settings_asked(
    pipeline: Any,
    adapter: Adapter,
    strategy: Strategy,
    settings: Repulsion | None,
    strength: float | str,
    scope: str | None,
    window: float | None,
    oversample: int | None,
    apart: bool,
) -> Repulsion:
    """The settings of the repulsion, complete; `settings` and what is said beside them, which wins. apart: whether each
    candidate has words of its own; then no more start than are wanted, where nobody says otherwise, and likewise where
    one call of the pipeline makes so many at most."""
    if not strategy.repels and (settings, scope, window, oversample) != (None, None, None, None):
        raise InputError(
            f"The strategy {strategy.name} takes a strength only: leave scope, window, oversample and repulsion out."
        )
    if not isinstance(settings, Repulsion | None):
        raise InputError(f"repulsion is {settings!r}, but must be a Repulsion: Repulsion(scope=..., strength=...).")
    asked = settings or Repulsion()
    if scope is not None:
        asked = replace(asked, scope=scope)
    if window is not None:
        asked = replace(asked, window=window, steps=None)
    if oversample is not None:
        asked = replace(asked, oversample=oversample)
    if (apart or adapter.batch is not None) and asked.oversample is None:
        asked = replace(asked, oversample=1)
    if strength is None:
        raise InputError("strength is None, but must be a finite number >= 0, or 'auto'; 0 switches repulsion off.")
    if not isinstance(strength, str):
        asked = replace(asked, strength=strength, eta=None)
    elif strength != "auto":
        raise InputError(f"strength is {strength!r}, but must be a number >= 0 or 'auto'.")
    if not strategy.repels:
        return completed(asked, Repulsion(strength=strategy.strength))
    for name, value in (("window", window), ("oversample", oversample if oversample != 1 else None)):
        if value is not None and not completed(asked).active:
            raise InputError(f"{name} is {value}, but with strength 0 nothing repels: leave one of them out.")
    found = settings_for(pipeline, asked, adapter)
    return replace(found, churn=0.0) if asked.churn is None and not can_churn(pipeline) else found


def settled(settings: Repulsion, alone: bool, ranks: Ranks | None) -> Repulsion:
    """Without what has no part in this run. alone: whether there is one edit, with nothing to differ from: a plain one,
    as an anchor is, whatever would be done to those that are moved."""
    if alone:
        return replace(settings, oversample=1, anchor=True)
    return replace(settings, oversample=1) if ranks is not None or not settings.active else settings


def check_batches(
    batch_size: Any,
    bank: Any,
    n: int,
    strategy: Strategy,
    settings: Repulsion,
    adapter: Adapter,
    options: Mapping[str, Any],
    apart: bool,
) -> int | None:
    """How many candidates are made at once; None: as many as fit. apart: whether each has words of its own."""
    if bank not in get_args(BankKind):
        raise InputError(f"bank is {bank!r}, but must be one of {', '.join(get_args(BankKind))}.")
    if batch_size != "auto" and not (is_count(batch_size) and batch_size <= n):
        raise InputError(
            f"batch_size is {batch_size!r}, but must be 'auto' or how many of the {n} candidates are made at once: a "
            f"whole number from 1 to {n}."
        )
    asked = None if batch_size == "auto" else int(batch_size)
    why = one_batch(strategy, settings, options, n)
    if apart and why:
        raise InputError(f"With vary each candidate is made by itself, but {why}.")
    if apart:
        return 1
    if why is None:
        return asked
    if asked not in (None, n):
        raise InputError(f"batch_size is {asked}, but {why}.")
    if adapter.batch is not None and adapter.batch < n:
        raise InputError(f"Pipelines of {adapter.name} make at most {adapter.batch} at once, but {why}.")
    return n


def one_batch(strategy: Strategy, settings: Repulsion, options: Mapping[str, Any], n: int) -> str | None:
    """Why n candidates can only be made in one batch, and what mends it; None where they can be made in several."""
    rows = rows_of_their_own(options, n)
    if rows:
        return f"{rows[0]} has a row for each of {n} edits: give one row for all"
    if settings.active and not strategy.repels:
        return f"{strategy.name} knows nothing of other batches: make all {n} in one, or take another strategy"
    return None


def spread_over(
    group: Any, n: int, strategy: Strategy, settings: Repulsion, oversample: int | None, batch_size: Any,
    policy: Policy, unlike: Any,
) -> Ranks | None:  # fmt: skip
    """The ranks over which n candidates are spread; None without a group. All ranks call this."""
    if group is None:
        return None
    for name, wrong in {
        "oversample": (oversample or 1) > 1, "batch_size": batch_size != "auto", "unlike": bool(unlike),
        "on_unfaithful='retry'": policy.on_unfaithful == "retry", "distinct='retry'": policy.distinct == "retry",
        f"strategy {strategy.name!r}": settings.active and not strategy.repels,
    }.items():  # fmt: skip
        if wrong:
            raise InputError(
                f"Candidates that are spread over the ranks of a group are made at once: leave {name} out."
            )
    ranks = Ranks.of(group, 0)
    size = len(ranks.counts)
    if n < size:
        raise InputError(f"n is {n}, but the group has {size} ranks, each of which makes one at least: ask for {size}.")
    ranks.counts = [n // size + (rank < n % size) for rank in range(size)]
    return ranks


def check_list(unlike: Any) -> None:
    if not isinstance(unlike, Sequence) or isinstance(unlike, str | bytes):
        raise InputError(
            f"unlike is {unlike!r}, but must be a list of edits of such a set, or of pictures: edits[1:3], [edits[4]] "
            "or ['other.png']."
        )


def parted(
    unlike: Sequence[Any], source: Image.Image, size: tuple[int, int], pipeline: Any, adapter: Adapter
) -> tuple[list[Any], tuple[Image.Image, ...]]:
    """Edits, and pictures brought to (width, height) `size`. Raises InputError for what is neither."""
    edits: list[Any] = [one for one in unlike if left_trace(one)]
    pictures = []
    for i, one in enumerate([one for one in unlike if not left_trace(one)], 1):
        picture = read_image(one, name=f"unlike: picture {i}")
        ratio = picture.width / picture.height * source.height / source.width
        if max(ratio, 1 / ratio) > ROUNDED and abs(picture.width - picture.height * source.width / source.height) > 1:
            raise InputError(
                f"unlike: picture {i} is {picture.width} x {picture.height}, another aspect than the {source.width} x "
                f"{source.height} of the image: give one that lies on it."
            )
        pictures.append(picture.resize(size, Image.Resampling.LANCZOS))
    if pictures and type(adapter).pack is Adapter.pack:
        nothing: Any = None
        adapter.pack(pipeline, nothing)  # which refuses, whatever it is given
    return edits, tuple(pictures)
