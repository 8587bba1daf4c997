"""From a model's name to a loaded diffusers pipeline."""

from __future__ import annotations

import json
import os
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from ctxrep_edit.errors import ModelError
from ctxrep_edit.plugins import catalog
from ctxrep_edit.plugins.adapter import Adapter
from ctxrep_edit.plugins.contracts import EmbeddedModel
from ctxrep_edit.plugins.profiles import base_of

DEFAULT_MODEL = "kontext-nano"
INDEXES = ("model_index.json", "modular_model_index.json")
_hushing = threading.Lock()
_hushed: dict[
    Any, tuple[int, tuple[int, bool]]
] = {}  # by logging module: loads under way, and what was set before them
"""What makes a folder one of a pipeline: of one class, or modular."""


class OutsideItsWorld(UserWarning):
    """An embedded model was given an instruction that it was not trained on."""


def load_pipeline(
    model: str | Path | None = None, *, device: str | None = None, dtype: Any = None, progress: bool = True
) -> Any:
    """Loads a diffusers pipeline.

    model: name of an embedded model (None: kontext-nano), a local folder, or a hub id. device: a torch device; None
    takes the accelerator that torch finds, else the CPU. dtype: a torch dtype or its name; None takes float32 on a CPU
    and for an embedded model, bfloat16 elsewhere. progress: bars for downloading and reading, on stderr; an embedded
    model is too small for them. An embedded model is kept, so that a later call for it may give the same object. Raises
    ModelError.
    """
    name = os.path.expanduser(str(model or DEFAULT_MODEL))
    device = device or default_device()
    if name in catalog.MODELS.claims():
        return _embedded(catalog.MODELS.get(name).folder, device, _dtype(dtype, "cpu"))
    return _load(name, device, _dtype(dtype, device), progress)


def class_named(model: str | Path | None) -> str | None:
    """The pipeline class that a model's folder states, read without loading anything; None for a hub id, and for what
    is no model."""
    name = os.path.expanduser(str(model or DEFAULT_MODEL))
    embedded = catalog.MODELS.all().get(name)
    try:
        folder = Path(embedded.folder if embedded else name)
        text = next(folder / index for index in INDEXES if (folder / index).is_file()).read_text("utf-8")
        return str(json.loads(text)["_class_name"])
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return None


def default_device() -> str:
    """The accelerator that torch finds, else the CPU."""
    import torch

    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return str(found or "cpu")


def describe_device() -> str:
    """The default device, in words."""
    import torch

    device = default_device()
    if device != "cpu":
        return f"device {device}"
    return f"device cpu, {torch.get_num_threads()} threads (enough for kontext-nano, slow for FLUX)"


def warn_outside(instruction: str, model: str | Path | None, pipeline: Any) -> None:
    """Warns with OutsideItsWorld where an embedded model would be asked for what it was never taught."""
    embedded = embedded_model(model, pipeline)
    if embedded is not None and not embedded.knows(instruction):
        message = f"{embedded.name} was not taught {instruction!r}, so its edits mean little. {embedded.advice}"
        warnings.warn(message, OutsideItsWorld, stacklevel=6)


def embedded_model(model: str | Path | None, pipeline: Any) -> EmbeddedModel | None:
    """The embedded model in use: by its name, by its folder, or as a pipeline that was loaded from there."""
    origin = str(model or DEFAULT_MODEL)
    if pipeline is not None:
        config = getattr(pipeline, "config", None)  # whatever was given is not looked at yet
        origin = str(config.get("_name_or_path") or "") if isinstance(config, Mapping) else ""
    named = next((embedded for embedded in catalog.MODELS.all().values() if origin == embedded.name), None)
    return named or catalog.embedded_at(origin)


def check_readable(pipeline: Any, adapter: Adapter, options: Mapping[str, Any]) -> None:
    """Raises ModelError where words are to be read and the pipeline was loaded without what reads them."""
    said = [name for name in ("prompt", "negative_prompt") if options.get(f"{name}_embeds") is None]
    said = [name for name in said if name == "prompt" or options.get(name) is not None]
    lacking = [
        name
        for name, part in pipeline.components.items()
        if part is None and name.startswith(("text_encoder", "tokenizer"))
    ]
    spared = {*adapter.may_lack, *getattr(pipeline, "_optional_components", ())}
    if said and not spared.issuperset(lacking):
        missing = " and ".join(name for name in lacking if name not in spared)
        raise ModelError(
            f"This {type(pipeline).__name__} has no {missing}, so it cannot read words: load it with them, or give "
            f"{' and '.join(f'{name}_embeds' for name in said)}, and what goes with them."
        )


def name_of(pipeline: Any, model: str | Path | None) -> str:
    """What the recipe calls the model: as it was asked for, else where it was loaded from, else its class."""
    return str(model or getattr(pipeline, "config", {}).get("_name_or_path") or type(pipeline).__name__)


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
    import torch

    known = ", ".join(catalog.MODELS.all())
    embedded = f"an embedded model ({known})"
    path = Path(name)
    if path.is_dir() and not any((path / index).is_file() for index in INDEXES):
        raise ModelError(f"The folder {name} has no {' or '.join(INDEXES)}, so it is not a diffusers pipeline folder.")
    if not path.is_dir() and (path.is_absolute() or name.count("/") != 1):
        choices = f"{embedded}, an existing local folder" if known else "an existing local folder"
        none = "" if known else " No plugin in use brings embedded models: see 'ctxrep-edit plugins'."
        raise ModelError(
            f"There is no model {name!r}: name {choices}, or a hub id such as "
            f"black-forest-labs/FLUX.1-Kontext-dev.{none}"
        )
    try:
        with torch.device("cpu"), nullcontext() if progress else _quiet():
            loaded = _modular(name, dtype) if _is_modular(name) else _of_one_class(name, dtype)
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


def _of_one_class(name: str, dtype: Any) -> Any:
    """A pipeline of the class that it names; what its folder has not, and shares with another, comes from there."""
    base = base_of(Path(name))
    if base is None:
        return _class(name).from_pretrained(name, dtype=dtype)
    if not (base / INDEXES[0]).is_file():
        raise ModelError(f"it shares parts of {base}, which is no pipeline folder: put it there.")
    listed = json.loads((Path(name) / INDEXES[0]).read_text("utf-8"))
    own = {
        part: getattr(import_module(listed[part][0]), listed[part][1]).from_pretrained(
            name, subfolder=part, torch_dtype=dtype
        )
        for part in listed
        if (Path(name) / part).is_dir()
    }
    loaded = _class(name).from_pretrained(base, dtype=dtype, **own)
    loaded.register_to_config(_name_or_path=name)  # not that of the base
    return loaded


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


def _is_modular(name: str) -> bool:
    """Whether a model is a pipeline that is put together from blocks, and states no single class."""
    from diffusers import DiffusionPipeline, ModularPipeline

    if Path(name).is_dir():
        return not (Path(name) / INDEXES[0]).is_file()
    try:
        DiffusionPipeline.load_config(name)
    except OSError as error:
        if "does not appear to have a file" not in str(error):  # the hub cannot be reached, or there is no such model
            raise
        ModularPipeline.load_config(name)
        return True
    return False


def _modular(name: str, dtype: Any) -> Any:
    """A modular pipeline with its components; those that fail to load diffusers only logs."""
    from diffusers import ModularPipeline

    loaded = ModularPipeline.from_pretrained(name)
    loaded.load_components(dtype=dtype)
    lacking = [
        part
        for part, spec in loaded._component_specs.items()
        if spec.pretrained_model_name_or_path and getattr(loaded, part, None) is None
    ]
    if lacking:
        raise ModelError(f"its {' and '.join(lacking)} cannot be loaded, from where {INDEXES[1]} says.")
    loaded.register_to_config(_name_or_path=name)  # as diffusers' other pipelines do
    return loaded


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps diffusers and transformers from printing while they load; the last of several threads that load restores
    their settings."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    logs = (of_diffusers, of_transformers)
    with _hushing:
        for log in logs:
            users, before = _hushed.get(log, (0, (log.get_verbosity(), log.is_progress_bar_enabled())))
            _hushed[log] = users + 1, before
            log.set_verbosity_error()
            log.disable_progress_bar()
    try:
        yield
    finally:
        with _hushing:
            for log in logs:
                users, (verbosity, bars) = _hushed.pop(log)
                if users > 1:
                    _hushed[log] = users - 1, (verbosity, bars)
                    continue
                log.set_verbosity(verbosity)
                if bars:
                    log.enable_progress_bar()
