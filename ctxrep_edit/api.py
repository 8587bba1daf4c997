"""`diverse_edit`: one call, n different edits, each checked."""

from __future__ import annotations

import copy
import difflib
import inspect
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from ctxrep_edit import __version__, lpips_weights, particles, plugins
from ctxrep_edit.adapter import Adapter, Request
from ctxrep_edit.editset import Edit, EditSet
from ctxrep_edit.errors import InputError
from ctxrep_edit.hooks import Attachment, repelled
from ctxrep_edit.imaging import ImageLike, read_image, read_mask, to_tensor
from ctxrep_edit.models import DEFAULT_MODEL, Profile, default_settings, load_pipeline, profile
from ctxrep_edit.preservation import Verdict, assess
from ctxrep_edit.settings import Repulsion

OnStep = Callable[[int, int], None]
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
    strength: float | Literal["auto"] = "auto",
    scope: str | None = None,
    repulsion: Repulsion | None = None,
    seed: int | None = None,
    steps: int | None = None,
    mask: ImageLike | None = None,
    preserve: Literal["auto", "off"] = "auto",
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
    strength: of the repulsion, without units, >= 0; "auto" is the default of the model or its family; 0 is plain
        sampling. scope: which tokens repel, a name among the adapter's scopes. repulsion: all settings at once;
        `strength` and `scope`, where given, still win.
    seed: of the first edit's noise, the others follow; None draws one. The same seed gives the same pictures on the
        same machine, and edit i starts from the same noise for any n.
    steps: of the sampler; None is the model's default. mask: where the edit is allowed, white (or, in a picture with
        transparency, transparent), of the image's size; inpainting pipelines are given it too.
    preserve: "auto" measures LPIPS where nothing should have changed; "off" needs no LPIPS weights.
    device, dtype: for loading `model`; not with `pipeline`. progress: a progress bar on stderr.
    on_step: called with (step, steps) after each step; an exception that it raises ends the run.
    pipeline_kwargs: handed to the pipeline's call; `denoising_strength` is the `strength` of an inpainting pipeline.

    Raises InputError, ModelError, UnknownPipeline, WeightsError or RepulsionError, all of them CtxrepError.
    """
    # 1. Everything that can be wrong is found before anything runs.
    source = read_image(image)
    _check(instruction, n, steps, preserve)
    allowed = None if mask is None else Image.fromarray(read_mask(mask, source.size)).convert("L")
    if preserve == "auto":
        lpips_weights.ensure_weights()
    n, steps = int(n), None if steps is None else int(steps)
    # 2. The pipeline and the adapter that knows it.
    if pipeline is not None and (model, device, dtype) != (None, None, None):
        raise InputError(
            "model, device and dtype choose what to load, but a loaded pipeline was given: leave them out."
        )
    warn_outside(instruction, model if pipeline is None else None, pipeline)
    pipe = load_pipeline(model, device=device, dtype=dtype, progress=progress) if pipeline is None else pipeline
    adapter, stated = plugins.adapter_for(pipe), profile(pipe)
    settings = _settings(adapter, repulsion or default_settings(pipe), strength, scope)
    # 3. The particles and the call that makes them.
    numbers = particles.seeds(seed, n)
    width, height = stated.size(*source.size) or adapter.size(pipe, *source.size)
    size = pipeline_kwargs.get("width") or width, pipeline_kwargs.get("height") or height
    request = Request(source, instruction, particles.generators(numbers), size, steps, allowed)
    arguments = _arguments(pipe, adapter, stated, request, pipeline_kwargs)
    particles.check_memory(pipe, n, size)
    # 4. The run.
    began = time.perf_counter()
    images, run = _sample(pipe, adapter, settings, arguments, n, progress, on_step)
    seconds = time.perf_counter() - began
    size = images.shape[3], images.shape[2]  # pipelines round
    # 5. Is the rest still there?
    small = to_tensor(source.resize(size, Image.Resampling.LANCZOS))  # (1, 3, h, w)
    verdicts: list[Verdict | None] = [None] * n
    if preserve == "auto":
        where = None if allowed is None else to_tensor(allowed.resize(size).convert("RGB"))[0, 0] >= 0.5
        plain = settings.active and settings.anchor  # then the first edit is the plain one
        verdicts = [*assess(small, images, round_trip(pipe, small), where, first_is_plain=plain)]
    # 6. The result, in the source's aspect.
    shape = _aspect(size, source.size)
    still = n if not settings.active else int(settings.anchor)  # the first ones were not moved
    used = [0.0 if i < still else settings.strength if settings.eta is None else None for i in range(n)]
    edits = tuple(Edit(_picture(images[i], shape), numbers[i], i, verdicts[i], used[i]) for i in range(n))
    recipe = _recipe(pipe, model, settings, replace(request, size=size), n, pipeline_kwargs)
    return EditSet(instruction, _picture(small[0], shape), edits, recipe, _mean(run), seconds)


def _check(instruction: str, n: int, steps: int | None, preserve: str) -> None:
    if not isinstance(instruction, str) or not instruction.strip():
        raise InputError(f"The instruction is {instruction!r}: say in words what to change, such as 'make it autumn'.")
    if not isinstance(n, Integral) or isinstance(n, bool) or n < 1:
        raise InputError(f"n is {n!r}, but must be a whole number of edits, at least 1.")
    if steps is not None and (not isinstance(steps, Integral) or steps < 1):
        raise InputError(f"steps is {steps!r}, but must be a whole number of sampling steps, at least 1.")
    if preserve not in ("auto", "off"):
        raise InputError(f"preserve is {preserve!r}, but must be 'auto' or 'off'.")


def warn_outside(instruction: str, model: str | Path | None, pipeline: Any) -> None:
    """Warns with OutsideItsWorld where an embedded model would be asked for what it was never taught."""
    origin = getattr(pipeline, "config", {}).get("_name_or_path") if pipeline is not None else None
    for embedded in plugins.models().values():
        chosen = (
            str(embedded.folder) == str(origin)
            if pipeline is not None
            else embedded.name == str(model or DEFAULT_MODEL)
        )
        if chosen and not embedded.knows(instruction):
            message = f"{embedded.name} was not taught {instruction!r}, so its edits mean little. {embedded.advice}"
            warnings.warn(message, OutsideItsWorld, stacklevel=3)


def _settings(adapter: Adapter, settings: Repulsion, strength: float | str, scope: str | None) -> Repulsion:
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


def _sample(
    pipeline: Any,
    adapter: Adapter,
    settings: Repulsion,
    arguments: dict[str, Any],
    n: int,
    progress: bool,
    on_step: OnStep | None,
) -> tuple[Tensor, Attachment | None]:
    """Runs the pipeline, repelled where the settings say so: images (n, 3, h, w) in [0, 1] and the run's record."""
    theirs = arguments.pop("callback_on_step_end", None)

    def after(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if on_step is not None:
            on_step(step + 1, pipe.num_timesteps)
        return tensors if theirs is None else theirs(pipe, step, timestep, tensors)

    instruction = adapter.instruction(pipeline, arguments)
    with _borrowed(pipeline, progress):
        if not settings.active:
            return pipeline(**arguments, callback_on_step_end=after).images.float().cpu(), None
        with repelled(pipeline, settings, particles=n, instruction=instruction, adapter=adapter) as run:
            images = pipeline(**arguments, callback_on_step_end=after).images
        return images.float().cpu(), run


@contextmanager
def _borrowed(pipeline: Any, progress: bool) -> Iterator[None]:
    """Lends the pipeline a scheduler of its own and our progress bar; gives back what it had, whatever happens."""
    scheduler, bar = pipeline.scheduler, getattr(pipeline, "_progress_bar_config", None)
    own = copy.deepcopy(scheduler)
    try:
        pipeline.scheduler = own
        pipeline.set_progress_bar_config(**{"desc": "editing", **(bar or {}), "disable": not progress})
        yield
    finally:
        pipeline.scheduler = scheduler
        if bar is None:
            pipeline.__dict__.pop("_progress_bar_config", None)
        else:
            pipeline._progress_bar_config = bar


@torch.no_grad()
def round_trip(pipeline: Any, image: Tensor) -> Tensor:
    """What the pipeline's autoencoder alone makes of `image`: the floor of any check. (n, 3, h, w) in [0, 1]."""
    vae = pipeline.vae
    encoded = vae.encode((image * 2 - 1).to(pipeline._execution_device, vae.dtype))
    latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
    decoded: Tensor = vae.decode(latents).sample.float()
    return ((decoded + 1) / 2).clamp(0, 1).cpu()


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


def _mean(run: Attachment | None) -> tuple[float, float] | None:
    if run is None or not run.vendi:
        return None
    before, after = zip(*run.vendi, strict=True)
    return sum(before) / len(before), sum(after) / len(after)


def _recipe(
    pipeline: Any, model: str | Path | None, settings: Repulsion, request: Request, n: int, extra: Mapping[str, Any]
) -> dict[str, Any]:
    plain = (str, int, float, bool, type(None))
    return {
        "ctxrep_edit": __version__,
        "model": str(model or getattr(pipeline, "config", {}).get("_name_or_path") or type(pipeline).__name__),
        "pipeline": type(pipeline).__name__,
        "n": n,
        "steps": request.steps,
        "size": list(request.size),
        "repulsion": {name: getattr(settings, name) for name in settings.__dataclass_fields__},
        "pipeline_kwargs": {k: v if isinstance(v, plain) else type(v).__name__ for k, v in extra.items()},
    }
