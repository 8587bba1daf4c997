from .api import assess, diverse_edit, stream_edits
from .errors import (
    CtxrepError,
    InputError,
    ModelError,
    OutputError,
    PipelineBusy,
    PluginError,
    RepulsionError,
    Unfaithful,
    UnknownPipeline,
    WeightsError,
)
from .faithfulness.case import Case
from .faithfulness.evidence import Evidence
from .faithfulness.judgement import DEFAULT_CHECKS, judge
from .faithfulness.lpips import MIN_LPIPS_SIDE, alexnet_features, lpips_distance, lpips_map, lpips_maps
from .faithfulness.lpips_weights import ensure_weights
from .faithfulness.registration import orientation
from .imaging import BrokenColourProfile, ImageLike, brought_down, luma, read_image, to_tensor
from .plugins.adapter import Adapter, Request, Scope
from .plugins.catalog import CHECKS, EMBEDDERS, EXPORTERS, MODELS, STRATEGIES, adapter_for
from .plugins.contracts import Check, EmbeddedModel, Embedder, Exporter, Run, Strategy, Verdict
from .plugins.hookspecs import API_VERSION, hookimpl
from .plugins.loading import BrokenPlugin, register, unregister
from .plugins.profiles import calibration_file, default_settings
from .repulsion.ascent import repel, vendi_score
from .repulsion.attachment import Attachment
from .repulsion.bank import Bank
from .repulsion.clock import Clock, before_each_call
from .repulsion.hooks import attach, detach, repelled
from .results.bank_file import write_bank
from .results.edit import Edit
from .results.editset import EditSet
from .results.making import EditStream
from .results.png import encode_png
from .results.sheet import contact_sheet
from .results.valid_json import encode_json
from .sampling.defaults import Uncalibrated
from .sampling.forming import Forming
from .sampling.pipelines import OutsideItsWorld, load_pipeline
from .sampling.run import round_trip
from .sampling.truncation import TruncatedInstruction
from .settings import Repulsion

__version__: str

__all__ = [
    "API_VERSION",
    "CHECKS",
    "DEFAULT_CHECKS",
    "EMBEDDERS",
    "EXPORTERS",
    "MIN_LPIPS_SIDE",
    "MODELS",
    "STRATEGIES",
    "Adapter",
    "Attachment",
    "Bank",
    "BrokenColourProfile",
    "BrokenPlugin",
    "Case",
    "Check",
    "Clock",
    "CtxrepError",
    "Edit",
    "EditSet",
    "EditStream",
    "EmbeddedModel",
    "Embedder",
    "Evidence",
    "Exporter",
    "Forming",
    "ImageLike",
    "InputError",
    "ModelError",
    "OutputError",
    "OutsideItsWorld",
    "PipelineBusy",
    "PluginError",
    "Repulsion",
    "RepulsionError",
    "Request",
    "Run",
    "Scope",
    "Strategy",
    "TruncatedInstruction",
    "Uncalibrated",
    "Unfaithful",
    "UnknownPipeline",
    "Verdict",
    "WeightsError",
    "adapter_for",
    "alexnet_features",
    "assess",
    "attach",
    "before_each_call",
    "brought_down",
    "calibration_file",
    "contact_sheet",
    "default_settings",
    "detach",
    "diverse_edit",
    "encode_json",
    "encode_png",
    "ensure_weights",
    "hookimpl",
    "judge",
    "load_pipeline",
    "lpips_distance",
    "lpips_map",
    "lpips_maps",
    "luma",
    "orientation",
    "read_image",
    "register",
    "repel",
    "repelled",
    "round_trip",
    "stream_edits",
    "to_tensor",
    "unregister",
    "vendi_score",
    "write_bank",
]
