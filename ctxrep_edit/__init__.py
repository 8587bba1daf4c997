"""ctxrep-edit: image editing models that give different good answers."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "diverse_edit": "api",
    "OutsideItsWorld": "api",
    "Adapter": "adapter",
    "Request": "adapter",
    "Scope": "adapter",
    "Edit": "editset",
    "EditSet": "editset",
    "CtxrepError": "errors",
    "InputError": "errors",
    "ModelError": "errors",
    "OutputError": "errors",
    "PluginError": "errors",
    "RepulsionError": "errors",
    "UnknownPipeline": "errors",
    "WeightsError": "errors",
    "attach": "hooks",
    "detach": "hooks",
    "repelled": "hooks",
    "hookimpl": "hookspecs",
    "EmbeddedModel": "models",
    "load_pipeline": "models",
    "lpips_distance": "perceptual",
    "lpips_map": "perceptual",
    "Verdict": "preservation",
    "Repulsion": "settings",
}

__all__ = sorted([*_HOMES, "__version__"])

if TYPE_CHECKING:
    from ctxrep_edit.adapter import Adapter, Request, Scope
    from ctxrep_edit.api import OutsideItsWorld, diverse_edit
    from ctxrep_edit.editset import Edit, EditSet
    from ctxrep_edit.errors import (
        CtxrepError,
        InputError,
        ModelError,
        OutputError,
        PluginError,
        RepulsionError,
        UnknownPipeline,
        WeightsError,
    )
    from ctxrep_edit.hooks import attach, detach, repelled
    from ctxrep_edit.hookspecs import hookimpl
    from ctxrep_edit.models import EmbeddedModel, load_pipeline
    from ctxrep_edit.perceptual import lpips_distance, lpips_map
    from ctxrep_edit.preservation import Verdict
    from ctxrep_edit.settings import Repulsion


def __getattr__(name: str) -> Any:
    """Loads a public name when it is first asked for, so that the import itself needs no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
