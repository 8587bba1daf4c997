"""Everything that ctxrep-edit raises on purpose.

    CtxrepError
    ├── InputError          a picture, mask, instruction or option that cannot be used (also a ValueError)
    ├── ModelError          a model or pipeline that cannot be found, loaded or driven
    │   ├── PipelineBusy    a pipeline, or its transformer, that another call is at work with
    │   └── UnknownPipeline no adapter knows this pipeline class
    ├── RepulsionError      the hook could not do its work, or never ran
    ├── WeightsError        the LPIPS weights are missing and cannot be fetched
    ├── Unfaithful          edits that did not keep what they should, where on_unfaithful="raise"
    ├── OutputError         a result cannot be written
    └── PluginError         a plugin contradicts another or the hook specification

Each message names the thing, the cause and the mend.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ctxrep_edit.results.editset import EditSet

__all__ = [
    "CtxrepError",
    "InputError",
    "ModelError",
    "OutputError",
    "PipelineBusy",
    "PluginError",
    "RepulsionError",
    "Unfaithful",
    "UnknownPipeline",
    "WeightsError",
]


class CtxrepError(Exception):
    """Base of all errors that ctxrep-edit raises on purpose."""


class InputError(CtxrepError, ValueError):
    """A picture, mask, instruction or option that cannot be used."""


class ModelError(CtxrepError):
    """A model or pipeline that cannot be found, loaded or driven."""


class PipelineBusy(ModelError):
    """A pipeline, or a transformer that several share, is at work in another call, as in another thread."""


class UnknownPipeline(ModelError):
    """No adapter knows this pipeline class."""


class RepulsionError(CtxrepError):
    """The repulsion hook could not do its work, or never ran."""


class WeightsError(CtxrepError):
    """The LPIPS weights are missing and cannot be fetched."""


class Unfaithful(CtxrepError):
    """Edits did not keep what they should, and on_unfaithful="raise". `edits` is the whole set, with its verdicts."""

    def __init__(self, message: str, edits: "EditSet") -> None:
        super().__init__(message)
        self.edits = edits

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (*self.args, self.edits), vars(self)


class OutputError(CtxrepError, OSError):
    """A result cannot be written."""


class PluginError(CtxrepError):
    """A plugin contradicts another one or the hook specification."""
