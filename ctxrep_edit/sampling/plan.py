"""One call of `diverse_edit`, checked and resolved: whatever is wrong with it is found here, before anything runs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ctxrep_edit.errors import InputError
from ctxrep_edit.faithfulness.judgement import checks_named, prepared
from ctxrep_edit.imaging import ImageLike, Source, check_aspect, mask_picture, read_references, read_source, shrink_mask
from ctxrep_edit.plugins import catalog
from ctxrep_edit.plugins.adapter import Adapter, Request
from ctxrep_edit.plugins.contracts import Check, Strategy
from ctxrep_edit.plugins.profiles import Profile, profile
from ctxrep_edit.repulsion.bank import Bank
from ctxrep_edit.repulsion.ranks import Ranks
from ctxrep_edit.sampling import particles, pipelines
from ctxrep_edit.sampling.asked import (
    BankKind,
    Distinct,
    OnUnfaithful,
    Policy,
    check_batches,
    check_list,
    check_pool,
    check_references,
    check_said,
    check_switches,
    check_told,
    one_batch,
    parted,
    settings_asked,
    settled,
    spread_over,
    words_given,
)
from ctxrep_edit.sampling.defaults import left_open, origin_of
from ctxrep_edit.sampling.forming import OnPreview, check_foreseen
from ctxrep_edit.sampling.options import call_arguments, check_claimed, check_options, pixels
from ctxrep_edit.sampling.provenance import provenance, stated_of
from ctxrep_edit.sampling.run import OnStep
from ctxrep_edit.sampling.steering import Steering, likened
from ctxrep_edit.sampling.traces import bank_of, kind_of
from ctxrep_edit.sampling.varying import Wordings, worded
from ctxrep_edit.settings import Repulsion

if TYPE_CHECKING:
    from PIL import Image

    from ctxrep_edit.plugins.adapter import Words
    from ctxrep_edit.results.edit import Edit

NONE: Mapping[str, Any] = {}
KEEP = {"auto": None, "memory": True, "disk": True, "off": False}


@dataclass(frozen=True)
class Plan:
    """What was asked for, with nothing left open.

    source: the picture, with what of it outlives the edit. request: what the particles of the whole set are to be;
    its image is the source at its own size, its mask where the edit is allowed. wordings: what each of them is asked
    for, as its instruction has it or with a value of its own. seeds: one per particle. pipeline,
    adapter: loaded, and what knows it. strategy, settings: what moves the particles apart, and how. defaults,
    options: arguments of the pipeline's call that its model states, and that the caller gave. words: the text tokens
    that carry the instruction, where the caller said so. checks: what judges the edits. policy: what becomes of them.
    realign, restore, progress, on_step, on_preview: as `diverse_edit` takes them. batch_size: how many candidates are
    made at once, None: as many as fit. bank: what they are repelled from, and where they are noted. shown: pictures of
    the request's size, from which they are repelled too. known: the pictures of all that they are unlike. keep:
    whether the bank is kept for later ones, None: where it is small. kind: what these must share with it, see `traces`.
    ranks: over which they are spread, None: all are made here. recipe: all of it, as JSON takes it.
    """

    source: Source
    request: Request
    wordings: Wordings
    seeds: tuple[int, ...]
    pipeline: Any
    adapter: Adapter
    strategy: Strategy
    settings: Repulsion
    defaults: Mapping[str, Any]
    options: Mapping[str, Any]
    words: Words
    checks: tuple[Check, ...]
    policy: Policy
    realign: bool
    restore: bool
    batch_size: int | None
    bank: Bank
    shown: tuple[Image.Image, ...]
    known: tuple[Image.Image, ...]
    keep: bool | None
    kind: Mapping[str, Any]
    ranks: Ranks | None
    recipe: Mapping[str, Any]
    progress: bool = True
    on_step: OnStep | None = None
    on_preview: OnPreview | None = None
    _derived: dict[tuple[int, str], tuple[Request, dict[str, Any]]] = field(
        default_factory=dict, repr=False, compare=False
    )

    @property
    def here(self) -> range:
        """The numbers of the candidates that this process makes."""
        if self.ranks is None:
            return range(len(self.seeds))
        return range(self.ranks.first, self.ranks.first + self.ranks.counts[self.ranks.rank])

    @property
    def together(self) -> bool:
        """Whether its candidates can only be made in one batch."""
        alone = one_batch(self.strategy, self.settings, self.options, len(self.seeds))
        return self.ranks is not None or alone is not None

    def beside(self, numbers: Sequence[int], begin: int) -> list[int]:
        """Seeds of what starts beside the candidates of these numbers. begin: the seed from which the set counts."""
        times = self.settings.oversample - 1
        return [begin + len(self.seeds) + times * i + k for i in numbers for k in range(times)]

    @property
    def next_seed(self) -> int:
        """The first one that no candidate of this plan starts from, whatever has to be made again."""
        return self.begin(1 + self.policy.rounds)

    def begin(self, number: int) -> int:
        """The first seed of the round of that number, from 0."""
        return self.seeds[0] + number * (self.settings.oversample * len(self.seeds) + self.strategy.extra_seeds)

    def arguments(self, seeds: Sequence[int], number: int = 0) -> dict[str, Any]:
        """The keyword arguments of one call that makes a particle per seed, each from the beginning of its noise, by
        the words of that number.

        What depends on the number of particles and the words alone is derived once for each. Raises InputError.
        """
        key = len(seeds), self.wordings.said(number)
        if key not in self._derived:
            batch = replace(self.request, instruction=key[1], generators=particles.generators(seeds))
            asked = self.adapter.arguments(self.pipeline, batch)
            left_out = {name for name, stated in self.defaults.items() if stated is None}
            asked = {name: said for name, said in asked.items() if name not in left_out}
            check_claimed(asked, self.options)
            self._derived[key] = batch, call_arguments({**self.defaults, **asked}, self.options, len(seeds))
            self.adapter.check_call(self.pipeline, self._derived[key][1], self.options)
        batch, arguments = self._derived[key]
        for generator, seed in zip(batch.generators, seeds, strict=True):
            generator.manual_seed(seed)
        return dict(arguments)


def plan(
    image: ImageLike | Source, instruction: str, n: int = 6, *,
    model: str | Path | None = None, pipeline: Any = None, strategy: str | Strategy = "contextual",
    strength: float | Literal["auto"] = "auto", scope: str | None = None, window: float | None = None,
    oversample: int | None = None, repulsion: Repulsion | None = None, unlike: Sequence[Edit | ImageLike] = (),
    like: Edit | None = None, spread: float | None = None, vary: Sequence[str] | None = None, seed: int | None = None,
    steps: int | None = None, mask: ImageLike | None = None, references: Sequence[ImageLike | Source] = (),
    instruction_mask: Any = None, preserve: Literal["auto", "off"] | Sequence[str | Check] = "auto",
    realign: bool = False, restore: bool = False, on_unfaithful: OnUnfaithful = "flag", distinct: Distinct = "count",
    retries: int = 2, batch_size: int | Literal["auto"] = "auto", bank: BankKind = "auto", group: Any = None,
    device: str | None = None, dtype: Any = None, progress: bool = True, on_step: OnStep | None = None,
    on_preview: OnPreview | None = None, options: Mapping[str, Any] = NONE,
) -> Plan:  # fmt: skip
    """Parameters and errors are those of `diverse_edit`; options: its `pipeline_kwargs`."""
    # 1. What needs no pipeline.
    read = read_source(image)
    source = read.image
    check_aspect(source, "image")
    check_said(instruction, n, steps)
    check_switches(realign=realign, restore=restore, progress=progress)
    check_told(on_step, on_preview)
    check_list(unlike)
    wordings = worded(instruction, vary, n, batch_size, options, like=like, group=group)
    others = tuple(one.image for one in read_references(references))
    embedded = pipelines.embedded_model(model, pipeline)
    also = embedded.checks if embedded is not None and all(map(embedded.knows, wordings.all)) else ()
    mover, checks = likened(catalog.STRATEGIES.get(strategy), like, spread, group), checks_named(preserve, also)
    policy = Policy(on_unfaithful, distinct, retries).checked(checks, n, options)
    allowed = None if mask is None else mask_picture(mask, source.size)
    prepared(checks)
    n, steps = int(n), None if steps is None else int(steps)
    # 2. The pipeline, and the adapter that knows it.
    given = pipeline
    pipeline, adapter, stated = _loaded(given, model, device, dtype, progress, wordings.all)
    check_references(others, pipeline, adapter)
    check_foreseen(on_preview, pipeline, adapter)
    settings = settings_asked(pipeline, adapter, mover, repulsion, strength, scope, window, oversample, wordings.apart)
    origin = origin_of(pipeline, adapter, stated, left_open(mover, strength, repulsion), settings.active and n > 1)
    ranks = spread_over(group, n, mover, settings, oversample, batch_size, policy, unlike)
    settings = settled(settings, n == 1 and not unlike and like is None, ranks)
    at_once = check_batches(batch_size, bank, n, mover, settings, adapter, options, wordings.apart)
    check_pool(settings, n, options, adapter)
    # 3. The particles, and the call that makes them.
    width, height = stated.size(*source.size) or adapter.size(pipeline, *source.size)
    size = pixels("width", options, width), pixels("height", options, height)
    at_once = at_once if ranks is None else ranks.counts[ranks.rank]
    _check_room(pipeline, n, size, at_once, source.size if restore else None, allowed)
    seeds = particles.seeds(seed, n * settings.oversample)[:n]
    seeds = seeds if ranks is None else ranks.told(seeds)[0]
    request = Request(source, instruction, (), size, steps, allowed, others)
    check_options(pipeline, options, inspect.signature(plan).parameters.keys() - {"options"})
    pipelines.check_readable(pipeline, adapter, options)
    name = pipelines.name_of(pipeline, model if given is not None else model or pipelines.DEFAULT_MODEL)
    edits, shown = parted(unlike, source, size, pipeline, adapter)
    if unlike:
        if not (settings.active and mover.repels):
            raise InputError("unlike names edits to be repelled from, but nothing repels: leave it out, or strength.")
        settings = replace(settings, anchor=False)  # it would repel from none of those
    recipe = stated_of(name, pipeline, mover, settings, request, wordings, n, options, [*edits, *shown])
    recipe |= {"realign": realign, "restore": restore, **asdict(policy), **origin}
    keep = KEEP[bank] if ranks is None else False
    told, kind = _bank(pipeline, adapter, mover, settings, request, wordings, edits, n, keep, on_disk=bank == "disk")
    made = Plan(
        read, request, wordings, tuple(seeds), pipeline, adapter, mover, settings, stated.call, options,
        words_given(instruction_mask, options), tuple(checks), policy, realign, restore, at_once, told, shown,
        (*(one.image for one in edits), *shown), keep, kind, ranks, recipe, progress, on_step, on_preview,
    )  # fmt: skip
    recipe |= {"started": [*seeds, *made.beside(range(n), seeds[0])]} if settings.oversample > 1 else {}
    for number in range(len(wordings)):  # also what the adapter has to say of it
        recipe |= provenance(pipeline, request, made.arguments(seeds, number))
    if ranks is not None:
        ranks.agree(recipe)
    return made


def _loaded(
    given: Any, model: str | Path | None, device: str | None, dtype: Any, progress: bool, said: Sequence[str]
) -> tuple[Any, Adapter, Profile]:
    """The pipeline, the adapter that knows it, and what the model's folder says of itself."""
    if given is not None and (model, device, dtype) != (None, None, None):
        raise InputError(
            "model, device and dtype choose what to load, but a loaded pipeline was given: leave them out."
        )
    pipeline = pipelines.load_pipeline(model, device=device, dtype=dtype, progress=progress) if given is None else given
    adapter, stated = catalog.adapter_for(pipeline), profile(pipeline)
    for words in said:
        pipelines.warn_outside(words, model if given is None else None, given)
    return pipeline, adapter, stated


def _check_room(
    pipeline: Any,
    n: int,
    size: tuple[int, int],
    at_once: int | None,
    restored: tuple[int, int] | None,
    allowed: Image.Image | None,
) -> None:
    """Whether the candidates fit in memory, at their size and, where they are to be restored, at the source's; and
    whether of the mask anything is left at theirs."""
    particles.check_memory(pipeline, n, size, at_once)
    if restored is not None:
        particles.check_restored(n, restored)
    if allowed is not None:
        shrink_mask(allowed, size)


def _bank(
    pipeline: Any,
    adapter: Adapter,
    strategy: Strategy,
    settings: Repulsion,
    request: Request,
    wordings: Wordings,
    unlike: Sequence[Edit],
    n: int,
    keep: bool | None,
    on_disk: bool,
) -> tuple[Bank, Mapping[str, Any]]:
    """What the run is repelled from, and what later ones must share with it."""
    repels = settings.active and strategy.repels
    leans = strategy.edits if isinstance(strategy, Steering) else ()
    if leans and not repels:
        raise InputError("Edits are steered by in the window of the repulsion, which strength 0 switches off.")
    kind = kind_of(pipeline, adapter, request, settings) if repels and (unlike or leans or keep is not False) else {}
    bank_of([(f"{strategy.name}: edit {edit.index + 1}", edit.trace) for edit in leans], kind, wordings)
    chosen = [(f"unlike: edit {edit.index + 1}", edit.trace) for edit in unlike]
    return bank_of(chosen, kind, wordings, on_disk=on_disk, expected=len(unlike) + n), kind
