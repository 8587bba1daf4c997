"""One call of `diverse_edit`, checked and resolved: whatever is wrong with it is found here, before anything runs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from ctxrep_edit import __version__
from ctxrep_edit.errors import InputError
from ctxrep_edit.faithfulness.judgement import checks_named
from ctxrep_edit.imaging import ImageLike, Source, check_aspect, mask_picture, read_source, shrink_mask
from ctxrep_edit.plugins import catalog
from ctxrep_edit.plugins.adapter import Adapter, Request
from ctxrep_edit.plugins.contracts import Check, Strategy
from ctxrep_edit.plugins.profiles import profile, settings_for
from ctxrep_edit.repulsion.words import checked_words
from ctxrep_edit.sampling import particles, pipelines
from ctxrep_edit.sampling.options import call_arguments, check_claimed, check_options, pixels, rows_of_their_own
from ctxrep_edit.sampling.provenance import provenance
from ctxrep_edit.sampling.run import OnStep
from ctxrep_edit.settings import Repulsion, completed, is_count

if TYPE_CHECKING:
    from ctxrep_edit.plugins.adapter import Words

OnUnfaithful = Literal["flag", "drop", "raise", "retry"]


@dataclass(frozen=True)
class Plan:
    """What was asked for, with nothing left open.

    source: the picture, with what of it outlives the edit. request: what the particles of the whole set are to be; its
    image is the source at its own size, its mask where the edit is allowed. seeds: one per particle. pipeline,
    adapter: loaded, and what knows it. strategy, settings: what moves the particles apart, and how. defaults,
    options: arguments of the pipeline's call that its model states, and that the caller gave. words: the
    text tokens that carry the instruction, where the caller said so. checks: what judges the edits. on_unfaithful,
    retries, realign, restore, progress, on_step: as `diverse_edit` takes them. recipe: all of it, as JSON takes it.
    """

    source: Source
    request: Request
    seeds: tuple[int, ...]
    pipeline: Any
    adapter: Adapter
    strategy: Strategy
    settings: Repulsion
    defaults: Mapping[str, Any]
    options: Mapping[str, Any]
    words: Words
    checks: tuple[Check, ...]
    on_unfaithful: OnUnfaithful
    retries: int
    realign: bool
    restore: bool
    recipe: Mapping[str, Any]
    progress: bool = True
    on_step: OnStep | None = None
    _derived: dict[int, tuple[Request, dict[str, Any]]] = field(default_factory=dict, repr=False, compare=False)

    def more(self, count: int, begin: int | None = None) -> Sequence[int]:
        """Seeds of what starts beside `count` candidates. begin: the seed from which a round counts; None: the
        first one's."""
        after = (self.seeds[0] if begin is None else begin) + len(self.seeds)
        return range(after, after + (self.settings.oversample - 1) * count)

    def arguments(self, seeds: Sequence[int]) -> dict[str, Any]:
        """The keyword arguments of one call that makes a particle per seed, each from the beginning of its noise.

        What depends on the number of particles alone is derived once for each number. Raises InputError.
        """
        n = len(seeds)
        if len(self.request.references) > self.adapter.references:
            raise InputError(
                f"{type(self.pipeline).__name__} takes {self.adapter.references} pictures beside the one to edit, but "
                f"{len(self.request.references)} were given."
            )
        if n not in self._derived:
            batch = replace(self.request, generators=particles.generators(seeds))
            asked = self.adapter.arguments(self.pipeline, batch)
            check_claimed(asked, self.options)
            self._derived[n] = batch, call_arguments({**self.defaults, **asked}, self.options, n)
        batch, arguments = self._derived[n]
        for generator, seed in zip(batch.generators, seeds, strict=True):
            generator.manual_seed(seed)
        return dict(arguments)


def plan(
    image: ImageLike | Source, instruction: str, n: int, *,
    model: str | Path | None, pipeline: Any, strategy: str | Strategy, strength: float | Literal["auto"],
    scope: str | None, oversample: int | None, repulsion: Repulsion | None,
    seed: int | None, steps: int | None, mask: ImageLike | None,
    instruction_mask: Any, preserve: Literal["auto", "off"] | Sequence[str | Check], realign: bool, restore: bool,
    on_unfaithful: OnUnfaithful, retries: int, device: str | None, dtype: Any, progress: bool, on_step: OnStep | None,
    options: Mapping[str, Any],
) -> Plan:  # fmt: skip
    """Parameters and errors are those of `diverse_edit`; options: its `pipeline_kwargs`."""
    # 1. What needs no pipeline.
    read = read_source(image)
    source = read.image
    check_aspect(source, "image")
    _check(instruction, n, steps)
    _check_switches(realign=realign, restore=restore, progress=progress)
    if on_step is not None and not callable(on_step):
        raise InputError(f"on_step is {on_step!r}, but must be a function of (step, steps).")
    embedded = pipelines.embedded_model(model, pipeline)
    also = embedded.checks if embedded is not None and embedded.knows(instruction) else ()
    mover, checks = catalog.STRATEGIES.get(strategy), checks_named(preserve, also)
    _check_policy(on_unfaithful, retries, checks, n, options)
    allowed = None if mask is None else mask_picture(mask, source.size)
    for check in checks:
        check.prepare()
    n, steps = int(n), None if steps is None else int(steps)
    # 2. The pipeline, and the adapter that knows it.
    if pipeline is not None and (model, device, dtype) != (None, None, None):
        raise InputError(
            "model, device and dtype choose what to load, but a loaded pipeline was given: leave them out."
        )
    given = pipeline
    pipeline = pipelines.load_pipeline(model, device=device, dtype=dtype, progress=progress) if given is None else given
    adapter, stated = catalog.adapter_for(pipeline), profile(pipeline)
    pipelines.warn_outside(instruction, model if given is None else None, given)
    settings = _settings(pipeline, adapter, mover, repulsion, strength, scope, oversample)
    if n == 1 or not settings.active:  # one alone has nothing to differ from, and plain ones do not
        settings = replace(settings, oversample=1)
    _check_pool(settings, n, options)
    # 3. The particles, and the call that makes them.
    width, height = stated.size(*source.size) or adapter.size(pipeline, *source.size)
    size = pixels("width", options, width), pixels("height", options, height)
    particles.check_memory(pipeline, n, size)
    if restore:
        particles.check_restored(n, source.size)
    if allowed is not None:
        shrink_mask(allowed, size)
    seeds = particles.seeds(seed, n * settings.oversample)[:n]
    request = Request(source, instruction, (), size, steps, allowed)
    check_options(pipeline, options, inspect.signature(plan).parameters)
    words = _words(instruction_mask, options)
    pipelines.check_readable(pipeline, adapter, options)
    name = pipelines.name_of(pipeline, model if given is not None else model or pipelines.DEFAULT_MODEL)
    recipe = _recipe(name, pipeline, mover, settings, request, n, options)
    recipe |= {"realign": realign, "restore": restore, "on_unfaithful": on_unfaithful, "retries": retries}
    made = Plan(
        read, request, tuple(seeds), pipeline, adapter, mover, settings, stated.call, options, words, tuple(checks),
        on_unfaithful, retries, realign, restore, recipe, progress, on_step,
    )  # fmt: skip
    if settings.oversample > 1:
        recipe["started"] = [*seeds, *made.more(n)]
    recipe |= provenance(pipeline, request, made.arguments(seeds))  # also what the adapter has to say of it
    return made


def _check(instruction: str, n: int, steps: int | None) -> None:
    if not isinstance(instruction, str) or not instruction.strip():
        raise InputError(f"The instruction is {instruction!r}: say in words what to change, such as 'make it autumn'.")
    if any("\ud800" <= letter <= "\udfff" for letter in instruction):
        raise InputError(f"The instruction {instruction!r} is not valid Unicode: type it anew, in a UTF-8 terminal.")
    if not is_count(n):
        raise InputError(f"n is {n!r}, but must be a whole number of edits, at least 1.")
    if steps is not None and not is_count(steps):
        raise InputError(f"steps is {steps!r}, but must be a whole number of sampling steps, at least 1.")


def _check_switches(**switches: Any) -> None:
    for name, value in switches.items():
        if not isinstance(value, bool):
            raise InputError(f"{name} is {value!r}, but must be True or False.")


def _check_policy(policy: str, retries: int, checks: Sequence[Check], n: int, options: Mapping[str, Any]) -> None:
    if policy not in get_args(OnUnfaithful):
        raise InputError(f"on_unfaithful is {policy!r}, but must be one of {', '.join(get_args(OnUnfaithful))}.")
    if not is_count(retries):
        raise InputError(f"retries is {retries!r}, but must be a whole number of rounds, at least 1.")
    if policy != "flag" and not checks:
        raise InputError(f"on_unfaithful is {policy!r}, but no check is asked: leave preserve='off' or this out.")
    rows = rows_of_their_own(options, n)
    if policy == "retry" and rows:
        raise InputError(f"{rows[0]} has a row for each edit, but a retry makes fewer: give one row, or do not retry.")


def _check_pool(settings: Repulsion, n: int, options: Mapping[str, Any]) -> None:
    rows = rows_of_their_own(options, n)
    if settings.oversample > 1 and rows:
        raise InputError(
            f"{rows[0]} has a row for each edit, but with oversample={settings.oversample} more candidates start: give "
            "one row, or oversample=1."
        )


def _words(mask: Any, options: Mapping[str, Any]) -> Words:
    """The text tokens that carry an instruction given as embeddings."""
    if mask is None:
        return None
    embeds = options.get("prompt_embeds")
    if embeds is None:
        raise InputError(
            "instruction_mask says which tokens of prompt_embeds are words, but none are given: leave it out."
        )
    return checked_words(mask, "instruction_mask")


def _settings(
    pipeline: Any,
    adapter: Adapter,
    strategy: Strategy,
    settings: Repulsion | None,
    strength: float | str,
    scope: str | None,
    oversample: int | None,
) -> Repulsion:
    if not strategy.repels and (settings, scope, oversample) != (None, None, None):
        raise InputError(
            f"The strategy {strategy.name} takes a strength only: leave scope, oversample and repulsion out."
        )
    if not isinstance(settings, Repulsion | None):
        raise InputError(f"repulsion is {settings!r}, but must be a Repulsion: Repulsion(scope=..., strength=...).")
    asked = settings or Repulsion()
    if scope is not None:
        asked = replace(asked, scope=scope)
    if oversample is not None:
        asked = replace(asked, oversample=oversample)
    if strength is None:
        raise InputError("strength is None, but must be a finite number >= 0, or 'auto'; 0 switches repulsion off.")
    if not isinstance(strength, str):
        asked = replace(asked, strength=strength, eta=None)
    elif strength != "auto":
        raise InputError(f"strength is {strength!r}, but must be a number >= 0 or 'auto'.")
    if not strategy.repels:
        return completed(asked, Repulsion(strength=strategy.strength))
    if oversample is not None and oversample > 1 and not completed(asked).active:
        raise InputError(f"oversample is {oversample}, but with strength 0 nothing repels: leave one of them out.")
    return settings_for(pipeline, asked, adapter)


def _recipe(
    name: str,
    pipeline: Any,
    strategy: Strategy,
    settings: Repulsion,
    request: Request,
    n: int,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    plain = (str, int, float, bool, type(None))
    return {
        "ctxrep_edit": __version__,
        "model": name,
        "pipeline": type(pipeline).__name__,
        "n": n,
        "size": list(request.size),
        "strategy": strategy.name,
        "repulsion": {name: getattr(settings, name) for name in settings.__dataclass_fields__},
        "pipeline_kwargs": {k: v if isinstance(v, plain) else type(v).__name__ for k, v in options.items()},
    }
