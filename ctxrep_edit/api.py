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
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from ctxrep_edit import __version__, catalog, particles, plugins
from ctxrep_edit.adapter import Adapter, Request
from ctxrep_edit.contracts import Case, Check, Strategy
from ctxrep_edit.editset import Edit, EditSet
from ctxrep_edit.errors import InputError
from ctxrep_edit.imaging import ImageLike, read_image, read_mask, to_tensor
from ctxrep_edit.judging import judge
from ctxrep_edit.models import DEFAULT_MODEL, Profile, default_settings, load_pipeline, profile
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
    device: str | None = None,
    dtype: Any = None,
    progress: bool = True,
    on_step: OnStep | None = None,
    **pipeline_kwargs: Any,
) -> EditSet:
    """Edits `image` n times as `instruction` says, the candidates repelling one another in contextual space.

    image: PIL image, path, bytes, numpy array or tensor; see `imaging.read_image` for shapes and value ranges.
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
    preserve: "auto" measures LPIPS where nothing should have changed; "off" needs no LPIPS weights; or the checks to
        ask, by name or as objects of your own, all of which an edit must pass.
    device, dtype: for loading `model`; not with `pipeline`. progress: a progress bar on stderr.
    on_step: called with (step, steps) after each step; an exception that it raises ends the run.
    pipeline_kwargs: handed to the pipeline's call; `denoising_strength` is the `strength` of an inpainting pipeline.

    Raises InputError, ModelError, UnknownPipeline, WeightsError, PluginError or RepulsionError, all of them
    CtxrepError.
    """
    # 1. Everything that can be wrong is found before anything runs.
    source = read_image(image)
    _check(instruction, n, steps)
    mover, checks = catalog.STRATEGIES.get(strategy), _checks(preserve)
    allowed = None if mask is None else Image.fromarray(read_mask(mask, source.size)).convert("L")
    for check in checks:
        check.prepare()
    n, steps = int(n), None if steps is None else int(steps)
    # 2. The pipeline and the adapter that knows it.
    if pipeline is not None and (model, device, dtype) != (None, None, None):
        raise InputError(
            "model, device and dtype choose what to load, but a loaded pipeline was given: leave them out."
        )
    warn_outside(instruction, model if pipeline is None else None, pipeline)
    pipe = load_pipeline(model, device=device, dtype=dtype, progress=progress) if pipeline is None else pipeline
    adapter, stated = catalog.adapter_for(pipe), profile(pipe)
    settings = _settings(pipe, adapter, mover, repulsion, strength, scope)
    # 3. The particles and the call that makes them.
    numbers = particles.seeds(seed, n)
    width, height = stated.size(*source.size) or adapter.size(pipe, *source.size)
    size = pipeline_kwargs.get("width") or width, pipeline_kwargs.get("height") or height
    request = Request(source, instruction, particles.generators(numbers), size, steps, allowed)
    arguments = _arguments(pipe, adapter, stated, request, pipeline_kwargs)
    particles.check_memory(pipe, n, size)
    recipe = _recipe(pipe, model, mover, settings, request, pipeline_kwargs)
    # 4. The run.
    plugins.notify("ctxrep_edit_started", instruction=instruction, n=n, recipe=recipe)
    began = time.perf_counter()
    images, run = sample(pipe, adapter, mover, settings, arguments, numbers, progress=progress, on_step=on_step)
    seconds = time.perf_counter() - began
    # 5. Is the rest still there?
    size = images.shape[3], images.shape[2]  # pipelines round
    small = to_tensor(source.resize(size, Image.Resampling.LANCZOS))  # (1, 3, h, w)
    where = None if allowed is None else to_tensor(allowed.resize(size).convert("RGB"))[0, 0] >= 0.5  # (h, w)
    case = Case(small, images, where, instruction, 0 < run.still < n, lambda: round_trip(pipe, small))
    verdicts = judge(case, checks)
    # 6. The result, in the source's aspect.
    shape = _aspect(size, source.size)
    moved = settings.strength if settings.eta is None else None
    edits = []
    for i in range(n):
        used = 0.0 if i < run.still else moved
        edits.append(Edit(_picture(images[i], shape), run.seeds[i], i, verdicts[i], used))
        plugins.notify("ctxrep_candidate_ready", edit=edits[i], n=n)
    recipe["size"] = list(size)
    found = EditSet(instruction, _picture(small[0], shape), tuple(edits), recipe, run.contextual_vendi, seconds)
    plugins.notify("ctxrep_edit_finished", edits=found)
    return found


def _check(instruction: str, n: int, steps: int | None) -> None:
    if not isinstance(instruction, str) or not instruction.strip():
        raise InputError(f"The instruction is {instruction!r}: say in words what to change, such as 'make it autumn'.")
    if not isinstance(n, Integral) or isinstance(n, bool) or n < 1:
        raise InputError(f"n is {n!r}, but must be a whole number of edits, at least 1.")
    if steps is not None and (not isinstance(steps, Integral) or steps < 1):
        raise InputError(f"steps is {steps!r}, but must be a whole number of sampling steps, at least 1.")


def _checks(preserve: str | Sequence[str | Check]) -> list[Check]:
    if isinstance(preserve, str):
        if preserve not in ("auto", "off"):
            raise InputError(f"preserve is {preserve!r}, but must be 'auto', 'off' or a list of checks.")
        preserve = ["preservation"] if preserve == "auto" else []
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


def _aspect(size: tuple[int, int], source: tuple[int, int]) -> tuple[int, int]:
    """The size in the source's aspect with about the same area; `size` itself where they agree to the pixel."""
    ratio = source[0] / source[1]
    height = (size[0] * size[1] / ratio) ** 0.5
    shape = (max(1, round(height * ratio)), max(1, round(height)))
    return size if abs(shape[0] - size[0]) <= 1 and abs(shape[1] - size[1]) <= 1 else shape


def _picture(image: Tensor, shape: tuple[int, int]) -> Image.Image:
    """(3, h, w) in [0, 1] as an RGB picture of `shape`."""
    pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()  # (h, w, 3)
    picture = Image.fromarray(pixels)
    return picture if picture.size == shape else picture.resize(shape, Image.Resampling.LANCZOS)


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
