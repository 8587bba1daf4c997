"""JSON as everybody can read it: what we write, we write through here."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def encode_json(value: Any, indent: int | None = 2) -> str:
    """`value` as JSON text by RFC 8259, which has no NaN and no infinity: such numbers become null.

    Raises TypeError for what JSON has no form for.
    """
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value
