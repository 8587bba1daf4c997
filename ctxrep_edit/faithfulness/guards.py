"""What is held against a check that was asked: its verdicts are plain values, and the pictures are as they were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass, replace
from typing import Any

import numpy as np
import torch

from ctxrep_edit.errors import PluginError
from ctxrep_edit.faithfulness.case import Case
from ctxrep_edit.plugins.contracts import Verdict

PICTURES = ("source", "edits", "mask")
_WANTED: dict[str, tuple[tuple[type, ...], str]] = {
    "kept": ((bool, type(None)), "True, False or None"),
    "measure": ((str,), "a string"),
    "value": ((int, float, type(None)), "a number or None"),
    "bound": ((int, float, type(None)), "a number or None"),
    "reason": ((str,), "a string"),
    "fault": ((str,), "a string"),
    "details": ((Mapping,), "a mapping"),
}


class Shown:
    """The pictures of a case, to be put right where a check changes them."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._tensors = {name: tensor for name in PICTURES if (tensor := getattr(case, name)) is not None}
        self._here = {name: tensor.detach().numpy() for name, tensor in self._tensors.items()}  # the same memory
        self._kept = {name: here.copy() for name, here in self._here.items()}

    def restored(self) -> list[str]:
        """Puts back what was changed, and says what that was. What was found on changed pictures is found anew."""
        changed = []
        for name, tensor in self._tensors.items():
            here, kept = self._here[name], self._kept[name]
            whole = getattr(self._case, name) is tensor and tensor.shape == here.shape
            if whole and np.array_equal(here, kept, equal_nan=True):
                continue
            np.copyto(here, kept)
            if tensor.shape != here.shape:
                tensor.data = torch.from_numpy(here)
            setattr(self._case, name, tensor)
            changed.append(name)
        if changed:
            vars(self._case).pop("evidence", None)
            self._case._register = None
        return changed


def plain(verdict: Verdict) -> Verdict:
    """The verdict with Python's numbers for those of numpy and torch. Raises PluginError, which says what is wrong."""
    found = {name: _number(getattr(verdict, name)) for name in _WANTED}
    for name, (types, wanted) in _WANTED.items():
        if not isinstance(found[name], types):
            raise PluginError(f"it gave a Verdict whose {name} is {found[name]!r}, but must be {wanted}")
    return replace(verdict, **{**found, "details": {name: _jsonable(one) for name, one in found["details"].items()}})


def _number(value: Any) -> Any:
    """A number of numpy or torch, or such an array of no dimension, as Python's; anything else as it is."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", None) == 0 else value


def _jsonable(value: Any) -> Any:
    value = _number(value)
    if isinstance(value, Mapping):
        return {name: _jsonable(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(one) for one in value]
    if value is None or isinstance(value, str | int | float) or is_dataclass(value):
        return value
    raise PluginError(f"it gave a Verdict with a {type(value).__name__} in its details, which JSON has no form for")
