from .adapter import Adapter, Request, Scope
from .api import OutsideItsWorld, diverse_edit
from .editset import Edit, EditSet
from .errors import (
    CtxrepError,
    InputError,
    ModelError,
    OutputError,
    PluginError,
    RepulsionError,
    UnknownPipeline,
    WeightsError,
)
from .hooks import attach, detach, repelled
from .hookspecs import hookimpl
from .models import EmbeddedModel, load_pipeline
from .perceptual import lpips_distance, lpips_map
from .preservation import Verdict
from .settings import Repulsion

__version__: str

__all__ = [
    "Adapter",
    "CtxrepError",
    "Edit",
    "EditSet",
    "EmbeddedModel",
    "InputError",
    "ModelError",
    "OutputError",
    "OutsideItsWorld",
    "PluginError",
    "Repulsion",
    "RepulsionError",
    "Request",
    "Scope",
    "UnknownPipeline",
    "Verdict",
    "WeightsError",
    "attach",
    "detach",
    "diverse_edit",
    "hookimpl",
    "load_pipeline",
    "lpips_distance",
    "lpips_map",
    "repelled",
]
