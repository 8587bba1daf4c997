"""`diverse_edit`: one call, n different edits, each checked."""

from __future__ import annotations

import difflib
import inspect
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import Any, Literal, get_args

from PIL import Image
from torch import Tensor

from ctxrep_edit import __version__, catalog, particles, plugins
from ctxrep_edit.adapter import Adapter, Request
from ctxrep_edit.assembling import assemble, settle
from ctxrep_edit.bank import Bank
from ctxrep_edit.contracts import Case, Check, Run, Strategy
from ctxrep_edit.editset import EditSet
from ctxrep_edit.errors import InputError
from ctxrep_edit.imaging import ImageLike, check_aspect, read_image, read_mask, shrink_mask, to_tensor
from ctxrep_edit.models import DEFAULT_MODEL, Profile, default_settings, load_pipeline, profile
from ctxrep_edit.retrying import OnUnfaithful, first_round, retry
from ctxrep_edit.sampling import OnStep, round_trip, sample
from ctxrep_edit.settings import Repulsion

OURS = (
    "image",
    "prompt",
    "num_images_per_prompt",
    "generator",
    "num_inference_steps",
    "mask_image",
    "output_type",
    "return_dict",
)
"""Arguments of a pipeline that `diverse_edit` sets itself."""

DEFAULT_CHECKS = (
    "preservation", "pixels", "colour", "alignment", "structure", "strays", "moved", "missing", "uniformity", "grain",
)  # fmt: skip
"""What preserve="auto" asks."""


class OutsideItsWorld(UserWarning):
    """An embedded model was given an instruction that it was not trained on."""


def diverse_edit(
    image: ImageLike,
    instruction: str,
    n: int = 6,
    *,
    model: str | Path | None = None,
    pipeline: Any = None,
    strategy: str | Strategy = "contextual",
    strength: float | Literal["auto"] = "auto",
    scope: str | None = None,
    repulsion: Repulsion | None = None,
    seed: int | None = None,
    steps: int | None = None,
    mask: ImageLike | None = None,
    preserve: Literal["auto", "off"] | Sequence[str | Check] = "auto",
    realign: bool = False,
    restore: bool = False,
    on_unfaithful: OnUnfaithful = "flag",
    retries: int = 2,
    device: str | None = None,
    dtype: Any = None,
    progress: bool = True,
    on_step: OnStep | None = None,
    **pipeline_kwargs: Any,
) -> EditSet:
    """Edits `image` n times as `instruction` says, the candidates repelling one another in contextual space.

    image: PIL image, path, bytes, numpy array or tensor, at most twelve times as long as wide; see
        `imaging.read_image` for shapes and value ranges.
    instruction: what to change, in words. n: how many edits, >= 1.
    model: an embedded model's name (None: "kontext-nano"), a local pipeline folder, or a hub id. pipeline: your own
        loaded pipeline instead; it is left as it was found, also after an exception or Ctrl-C.
    strategy: what moves the candidates apart: the name of an installed one, or an object of your own.
    strength: of the repulsion, without units, >= 0; "auto" is the default of the model or its family (of the strategy,
        for another than "contextual"); 0 is plain sampling. scope: which tokens repel, a name among the adapter's
        scopes. repulsion: all settings at once; `strength` and `scope`, where given, still win.
    seed: of the first edit's noise, the others follow; None draws one. The same seed gives the same pictures on the
        same machine, and edit i starts from the same noise for any n.
    steps: of the sampler; None is the model's default. mask: where the edit is allowed, white (or, in a picture with
        transparency, transparent), of the image's size; inpainting pipelines are given it too.
    preserve: "auto" asks `DEFAULT_CHECKS` whether what should not change has; "off" needs no LPIPS weights; or the
        checks to ask, by name or as objects of your own, all of which an edit must pass.
    realign: move edits back that came back shifted or zoomed. restore: put the source's own pixels back outside the
        edited region, feathered, at the source's size, which takes 5 bytes of memory per pixel and edit (6 edits of
        100 megapixels: 3 GB); it realigns too. An edit of the whole picture has no outside.
    on_unfaithful: what becomes of edits that fail a check: "flag" returns them with their verdicts; "retry" makes them
        again, at most `retries` times, each time half as strongly, from other noise and repelled from the kept ones,
        and then returns them with their verdicts; "drop" leaves them out, in `dropped`; "raise" raises Unfaithful.
    device, dtype: for loading `model`; not with `pipeline`. progress: a progress bar on stderr.
    on_step: called with (step, steps) after each step; an exception that it raises ends the run.
    pipeline_kwargs: handed to the pipeline's call; `denoising_strength` is the `strength` of an inpainting pipeline.

    Raises InputError, ModelError, UnknownPipeline, WeightsError, PluginError, RepulsionError or Unfaithful, all of
    them CtxrepError.
    """
    # 1. Everything that can be wrong is found before anything runs.
    source = read_image(image)
    check_aspect(source, "image")
    _check(instruction, n, steps)
    mover, checks = catalog.STRATEGIES.get(strategy), _checks(preserve)
    _check_policy(on_unfaithful, retries, checks, n, pipeline_kwargs)
    allowed = None if mask is None else Image.fromarray(read_mask(mask, source.size)).convert("L")
    for check in checks:
        check.prepare()
    n, steps = int(n), None if steps is None else int(steps)
    # 2. The pipeline and the adapter that knows it.
    if pipeline is not None and (model, device, dtype) != (None, None, None):
        raise InputError(
            "model, device and dtype choose what to load, but a loaded pipeline was given: leave them out."
        )
    pipe = load_pipeline(model, device=device, dtype=dtype, progress=progress) if pipeline is None else pipeline
    adapter, stated = catalog.adapter_for(pipe), profile(pipe)
    warn_outside(instruction, model if pipeline is None else None, pipeline)
    settings = _settings(pipe, adapter, mover, repulsion, strength, scope)
    # 3. The particles and the call that makes them.
    width, height = stated.size(*source.size) or adapter.size(pipe, *source.size)
    size = _pixels("width", pipeline_kwargs, width), _pixels("height", pipeline_kwargs, height)
    particles.check_memory(pipe, n, size)
    if restore:
        particles.check_restored(n, source.size)
    if allowed is not None:
        shrink_mask(allowed, size)
    numbers = particles.seeds(seed, n)
    request = Request(source, instruction, particles.generators(numbers), size, steps, allowed)
    _arguments(pipe, adapter, stated, request, pipeline_kwargs)
    recipe = _recipe(pipe, model if pipeline else model or DEFAULT_MODEL, mover, settings, request, pipeline_kwargs)
    recipe |= {"realign": realign, "restore": restore, "on_unfaithful": on_unfaithful, "retries": retries}
    # 4. The run, judged; what is unfaithful is made again where that is wanted.
    plugins.notify("ctxrep_edit_started", instruction=instruction, n=n, recipe=recipe)
    seconds: list[float] = []
    bank = Bank(noting=n > 1) if on_unfaithful == "retry" else None

    def make(numbers: Sequence[int], settings: Repulsion) -> tuple[Tensor, Run]:
        those = replace(request, generators=particles.generators(list(numbers)))
        given = _arguments(pipe, adapter, stated, those, pipeline_kwargs)
        began = time.perf_counter()
        made = sample(pipe, adapter, mover, settings, given, numbers, progress=progress, on_step=on_step, bank=bank)
        seconds.append(time.perf_counter() - began)
        return made

    def case(images: Tensor, first_is_plain: bool) -> Case:
        size = images.shape[3], images.shape[2]  # pipelines round
        small = to_tensor(source.resize(size, Image.Resampling.LANCZOS))  # (1, 3, h, w)
        where = None if allowed is None else shrink_mask(allowed, size)  # (h, w)
        floor = lambda: round_trip(pipe, small)  # noqa: E731
        return Case(small, images, where, instruction, first_is_plain, floor, realign, restore)

    found = first_round(make, numbers, settings, case, checks)
    if bank is not None:
        found = retry(found, make, bank, settings, case, checks, retries)
    # 5. The result, in the source's aspect.
    ready = lambda entry: plugins.notify("ctxrep_candidate_ready", edit=entry, n=n)  # noqa: E731
    edits = settle(assemble(found, source, recipe, sum(seconds), ready, allowed), on_unfaithful)
    plugins.notify("ctxrep_edit_finished", edits=edits)
    return edits


def _check(instruction: str, n: int, steps: int | None) -> None:
    if not isinstance(instruction, str) or not instruction.strip():
        raise InputError(f"The instruction is {instruction!r}: say in words what to change, such as 'make it autumn'.")
    if any("\ud800" <= letter <= "\udfff" for letter in instruction):
        raise InputError(f"The instruction {instruction!r} is not valid Unicode: type it anew, in a UTF-8 terminal.")
    if not isinstance(n, Integral) or isinstance(n, bool) or n < 1:
        raise InputError(f"n is {n!r}, but must be a whole number of edits, at least 1.")
    if steps is not None and (not isinstance(steps, Integral) or steps < 1):
        raise InputError(f"steps is {steps!r}, but must be a whole number of sampling steps, at least 1.")


def _check_policy(policy: str, retries: int, checks: Sequence[Check], n: int, extra: Mapping[str, Any]) -> None:
    if policy not in get_args(OnUnfaithful):
        raise InputError(f"on_unfaithful is {policy!r}, but must be one of {', '.join(get_args(OnUnfaithful))}.")
    if not isinstance(retries, Integral) or isinstance(retries, bool) or retries < 1:
        raise InputError(f"retries is {retries!r}, but must be a whole number of rounds, at least 1.")
    if policy != "flag" and not checks:
        raise InputError(f"on_unfaithful is {policy!r}, but no check is asked: leave preserve='off' or this out.")
    rows = [name for name, value in extra.items() if isinstance(value, Tensor) and value.ndim and len(value) == n > 1]
    if policy == "retry" and rows:
        raise InputError(f"{rows[0]} has a row for each edit, but a retry makes fewer: give one row, or do not retry.")


def _checks(preserve: str | Sequence[str | Check]) -> list[Check]:
    if preserve not in ("auto", "off") and (isinstance(preserve, str) or not isinstance(preserve, Sequence)):
        raise InputError(f"preserve is {preserve!r}, but must be 'auto', 'off' or a list of checks.")
    if isinstance(preserve, str):
        preserve = DEFAULT_CHECKS if preserve == "auto" else ()
    return [catalog.CHECKS.get(check) for check in preserve]


def warn_outside(instruction: str, model: str | Path | None, pipeline: Any) -> None:
    """Warns with OutsideItsWorld where an embedded model would be asked for what it was never taught."""
    origin = getattr(pipeline, "config", {}).get("_name_or_path") if pipeline is not None else None
    for embedded in catalog.MODELS.all().values():
        chosen = (
            str(embedded.folder) == str(origin)
            if pipeline is not None
            else embedded.name == str(model or DEFAULT_MODEL)
        )
        if chosen and not embedded.knows(instruction):
            message = f"{embedded.name} was not taught {instruction!r}, so its edits mean little. {embedded.advice}"
            warnings.warn(message, OutsideItsWorld, stacklevel=3)


def _settings(
    pipeline: Any,
    adapter: Adapter,
    strategy: Strategy,
    settings: Repulsion | None,
    strength: float | str,
    scope: str | None,
) -> Repulsion:
    if not strategy.repels and (settings, scope) != (None, None):
        raise InputError(f"The strategy {strategy.name} takes a strength only: leave scope and repulsion out.")
    if not isinstance(settings, Repulsion | None):
        raise InputError(f"repulsion is {settings!r}, but must be a Repulsion: Repulsion(scope=..., strength=...).")
    if settings is None:
        settings = default_settings(pipeline) if strategy.repels else Repulsion(strength=strategy.strength)
    if scope is not None:
        settings = replace(settings, scope=scope)
    if not isinstance(strength, str):
        settings = replace(settings, strength=strength, eta=None)
    elif strength != "auto":
        raise InputError(f"strength is {strength!r}, but must be a number >= 0 or 'auto'.")
    adapter.scope(settings.scope)
    return settings


def _pixels(side: str, extra: Mapping[str, Any], default: int) -> int:
    value = extra.get(side)
    if value is not None and (not isinstance(value, Integral) or value < 1):
        raise InputError(f"{side} is {value!r}, but must be a whole number of pixels, at least 1.")
    return default if value is None else int(value)


def _arguments(
    pipeline: Any, adapter: Adapter, stated: Profile, request: Request, extra: Mapping[str, Any]
) -> dict[str, Any]:
    """The pipeline's keyword arguments: the profile's, the adapter's, then the caller's."""
    accepted = set(inspect.signature(type(pipeline).__call__).parameters) - {"self"}
    extra = dict(extra)
    if "denoising_strength" in extra and "strength" in accepted:
        extra["strength"] = extra.pop("denoising_strength")
    for name in extra:
        if name not in accepted:
            near = difflib.get_close_matches(name, accepted - set(OURS), 1)
            hint = f"did you mean {near[0]}?" if near else f"it takes {', '.join(sorted(accepted - set(OURS)))}."
            raise InputError(f"{type(pipeline).__name__} has no option {name!r}: {hint}")
        if name in OURS:
            raise InputError(f"{name} is set by diverse_edit itself: use image, instruction, n, seed, steps and mask.")
    arguments = {**stated.call, **adapter.arguments(pipeline, request), **extra}
    if extra.get("prompt_embeds") is not None:  # one row each, in place of the words
        n = len(request.generators)
        arguments |= {"prompt": None, "num_images_per_prompt": 1}
        for name, value in extra.items():
            if name.endswith("_embeds") and isinstance(value, Tensor) and len(value) == 1:
                arguments[name] = value.expand(n, *value.shape[1:])
    return {**arguments, "output_type": "pt"}


def _recipe(
    pipeline: Any,
    model: str | Path | None,
    strategy: Strategy,
    settings: Repulsion,
    request: Request,
    extra: Mapping[str, Any],
) -> dict[str, Any]:
    plain = (str, int, float, bool, type(None))
    return {
        "ctxrep_edit": __version__,
        "model": str(model or getattr(pipeline, "config", {}).get("_name_or_path") or type(pipeline).__name__),
        "pipeline": type(pipeline).__name__,
        "n": len(request.generators),
        "steps": request.steps,
        "size": list(request.size),
        "strategy": strategy.name,
        "repulsion": {name: getattr(settings, name) for name in settings.__dataclass_fields__},
        "pipeline_kwargs": {k: v if isinstance(v, plain) else type(v).__name__ for k, v in extra.items()},
    }
