"""From a model's name to a loaded diffusers pipeline, and what a model says about itself."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from ctxrep_edit import catalog
from ctxrep_edit.errors import ModelError
from ctxrep_edit.settings import Repulsion

PROFILE = "ctxrep.json"
DEFAULT_MODEL = "kontext-nano"


@dataclass(frozen=True)
class Profile:
    """What a model folder may state about itself in `ctxrep.json`.

    sizes: (width, height) in pixels that the model edits at; empty: the adapter decides. call: default arguments of
    the pipeline. repulsion: settings that differ from the adapter's defaults.
    """

    sizes: tuple[tuple[int, int], ...] = ()
    call: Mapping[str, Any] = field(default_factory=dict)
    repulsion: Mapping[str, Any] = field(default_factory=dict)

    def size(self, width: int, height: int) -> tuple[int, int] | None:
        """The size whose aspect is nearest to width / height, in ratio; None where the model states none."""
        if not self.sizes:
            return None
        aspect = width / height
        return min(self.sizes, key=lambda s: max(aspect * s[1] / s[0], s[0] / (s[1] * aspect)))


def default_settings(pipeline: Any) -> Repulsion:
    """What is used on `pipeline` if nothing is said: the defaults of its adapter, changed by those of its folder."""
    return replace(catalog.adapter_for(pipeline).default, **profile(pipeline).repulsion)


def profile(pipeline: Any) -> Profile:
    """The profile of the folder that `pipeline` was loaded from; an empty one if there is none. Raises ModelError."""
    origin = getattr(pipeline, "config", {}).get("_name_or_path")
    file = Path(origin) / PROFILE if origin else None
    if file is None or not file.is_file():
        return Profile()
    try:
        stated = json.loads(file.read_text("utf-8"))
        stated["sizes"] = tuple((int(w), int(h)) for w, h in stated.get("sizes", ()))
        unknown = set(stated["repulsion"]) - {f.name for f in fields(Repulsion)} if "repulsion" in stated else set()
        if unknown:
            raise ValueError(f"unknown repulsion settings {sorted(unknown)}")
        return Profile(**stated)
    except (ValueError, TypeError, AttributeError) as error:
        raise ModelError(f"The profile {file} cannot be used: {error}. Mend or delete the file.") from error


def load_pipeline(
    model: str | Path | None = None, *, device: str | None = None, dtype: Any = None, progress: bool = True
) -> Any:
    """Loads a diffusers pipeline.

    model: name of an embedded model (None: kontext-nano), a local folder, or a hub id. device: a torch device; None
    takes the accelerator that torch finds, else the CPU. dtype: a torch dtype or its name; None takes float32 on a
    CPU and bfloat16 elsewhere. progress: bars for downloading and reading, on stderr; an embedded model is too small
    for them. Raises ModelError.
    """
    import torch

    name = str(model or DEFAULT_MODEL)
    if device is None:
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        device = str(found or "cpu")
    if name in catalog.MODELS.claims():
        return _embedded(catalog.MODELS.get(name).folder, device, _dtype(dtype, "cpu"))
    return _load(name, device, _dtype(dtype, device), progress)


@lru_cache(maxsize=2)
def _embedded(folder: Path, device: str, dtype: Any) -> Any:
    return _load(str(folder), device, dtype, progress=False)


def _dtype(dtype: Any, device: str) -> Any:
    import torch

    if dtype is None:
        return torch.float32 if device.startswith("cpu") else torch.bfloat16
    found = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ModelError(f"dtype {dtype!r} is not one a model can run in: use float32, bfloat16 or float16.")
    return found


def _load(name: str, device: str, dtype: Any, progress: bool) -> Any:
    known = ", ".join(catalog.MODELS.all())
    embedded = f"an embedded model ({known})"
    path = Path(name)
    if path.is_dir() and not (path / "model_index.json").is_file():
        raise ModelError(f"The folder {name} has no model_index.json, so it is not a diffusers pipeline folder.")
    if not path.is_dir() and (path.is_absolute() or name.count("/") != 1):
        choices = f"{embedded}, an existing local folder" if known else "an existing local folder"
        none = "" if known else " No plugin in use brings embedded models: see 'ctxrep-edit plugins'."
        raise ModelError(
            f"There is no model {name!r}: name {choices}, or a hub id such as "
            f"black-forest-labs/FLUX.1-Kontext-dev.{none}"
        )
    try:
        with nullcontext() if progress else _quiet():
            loaded = _class(name).from_pretrained(name, dtype=dtype)
    except Exception as error:
        raise ModelError(
            f"The model {name!r} cannot be loaded: {_line(error)} Check the name, the network and your access to "
            f"the hub{f', or use {embedded}' if known else ''}."
        ) from error
    try:
        return loaded.to(device)
    except Exception as error:  # no such device, or no room on it
        raise ModelError(
            f"The model {name!r} cannot be put on the device {device!r}: {_line(error)} Name another device, "
            "such as cpu, or load the pipeline yourself with offloading and give it as pipeline."
        ) from error


def _line(error: Exception) -> str:
    """The first line of what it says, as a sentence."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if line.endswith((".", "!", "?")) else f"{line}."


def _class(name: str) -> Any:
    """The pipeline class that a model names and a plugin brings, else diffusers' own loader."""
    from diffusers import DiffusionPipeline

    wanted = DiffusionPipeline.load_config(name).get("_class_name")
    adapter = catalog.pipelines().get(wanted)  # the others' classes are not asked for: they may fail
    brought = {cls.__name__: cls for cls in adapter.classes()} if adapter else {}
    return brought.get(wanted, DiffusionPipeline)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps diffusers and transformers from printing while they load, and restores their settings."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    logs = (of_diffusers, of_transformers)
    before = [(log.get_verbosity(), log.is_progress_bar_enabled()) for log in logs]
    try:
        for log in logs:
            log.set_verbosity_error()
            log.disable_progress_bar()
        yield
    finally:
        for log, (verbosity, bars) in zip(logs, before, strict=True):
            log.set_verbosity(verbosity)
            if bars:
                log.enable_progress_bar()
