"""Where the settings come from that a caller has left to the model and its family."""

from __future__ import annotations

import warnings
from typing import Any

from ctxrep_edit.plugins.adapter import Adapter
from ctxrep_edit.plugins.contracts import Strategy
from ctxrep_edit.plugins.profiles import Profile
from ctxrep_edit.sampling.pipelines import embedded_model
from ctxrep_edit.settings import Repulsion

_TOLD: set[str] = set()
"""Models of which this process has said that nobody calibrated them."""


class Uncalibrated(UserWarning):
    """The strength is a default of the family, and nobody has measured settings on this very model."""


def left_open(strategy: Strategy, strength: float | str, repulsion: Repulsion | None) -> bool:
    """Whether the caller leaves it to the model and its family how strongly candidates repel."""
    said = repulsion is not None and any(value is not None for value in (repulsion.strength, repulsion.eta))
    return strategy.repels and isinstance(strength, str) and not said


def origin_of(pipeline: Any, adapter: Adapter, stated: Profile, left: bool, repels: bool) -> dict[str, str | None]:
    """For a recipe: where the strength comes from, None where the caller gave it. Warns with Uncalibrated where it is a
    default of the family and several candidates repel by it. left: what `left_open` says."""
    if not left:
        return {"strength_from": None}
    if repels:
        warn_uncalibrated(pipeline, adapter, stated)
    if stated.calibrated:
        said = f"calibrated on this model, {stated.calibrated.get('date', 'date unknown')}: {stated.files[-1].name}"
    elif stated.repulsion:
        said = f"stated by this model: {stated.files[-1].name}"
    else:
        said = f"default of the family {adapter.name}, measured on {adapter.measured_on or 'random weights'}"
    return {"strength_from": said}


def warn_uncalibrated(pipeline: Any, adapter: Adapter, stated: Profile) -> None:
    """Warns with Uncalibrated, once per process and model, where nothing is stated of a model that can be named. A
    pipeline that was put together in code has no name to keep settings under."""
    config = getattr(pipeline, "config", {})
    name = str(config.get("_name_or_path") or "")
    if not name or name in _TOLD or stated.repulsion or stated.calibrated:
        return
    embedded = embedded_model(None, pipeline)
    if embedded is not None and embedded.name == adapter.measured_on:
        return
    _TOLD.add(name)
    known = (
        f"was measured on {adapter.measured_on} and not on this model"
        if adapter.measured_on
        else "was tried on random weights alone and is a cautious one"
    )
    message = (
        f"strength='auto' takes for {name} the default of the family {adapter.name}, which {known}. Find settings for "
        f"it by 'ctxrep-edit calibrate --model {name}', or give a strength."
    )
    warnings.warn(message, Uncalibrated, stacklevel=6)
