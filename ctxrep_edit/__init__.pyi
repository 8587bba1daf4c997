from .adapter import Adapter, Request, Scope
from .api import OutsideItsWorld, diverse_edit
from .assessing import assess
from .contracts import Case, Check, EmbeddedModel, Embedder, Exporter, Run, Strategy, Verdict
from .editset import Edit, EditSet
from .errors import (
    CtxrepError,
    InputError,
    ModelError,
    OutputError,
    PluginError,
    RepulsionError,
    Unfaithful,
    UnknownPipeline,
    WeightsError,
)
from .hooks import attach, detach, repelled
from .hookspecs import API_VERSION, hookimpl
from .models import load_pipeline
from .perceptual import lpips_distance, lpips_map
from .plugins import BrokenPlugin, register, unregister
from .settings import Repulsion

__version__: str

__all__ = [
    "API_VERSION",
    "Adapter",
    "BrokenPlugin",
    "Case",
    "Check",
    "CtxrepError",
    "Edit",
    "EditSet",
    "EmbeddedModel",
    "Embedder",
    "Exporter",
    "InputError",
    "ModelError",
    "OutputError",
    "OutsideItsWorld",
    "PluginError",
    "Repulsion",
    "RepulsionError",
    "Request",
    "Run",
    "Scope",
    "Strategy",
    "Unfaithful",
    "UnknownPipeline",
    "Verdict",
    "WeightsError",
    "assess",
    "attach",
    "detach",
    "diverse_edit",
    "hookimpl",
    "load_pipeline",
    "lpips_distance",
    "lpips_map",
    "register",
    "repelled",
    "unregister",
]
