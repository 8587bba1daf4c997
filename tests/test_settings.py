"""What the settings of the repulsion may be."""

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from ctxrep_edit import InputError, Repulsion


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strength": -1}, "strength is -1, but must be a finite number >= 0"),
        ({"strength": float("nan")}, "strength is nan"),
        ({"strength": 10**400}, "strength is 1000"),
        ({"strength": "strong"}, "strength is 'strong'"),
        ({"eta": float("inf")}, "eta is inf"),
        ({"steps": 0}, "steps of the repulsion is 0, but must be a whole number >= 1"),
        ({"iterations": 1.5}, "iterations of the repulsion is 1.5"),
        ({"schedule": "cosine"}, "schedule is 'cosine', but must be one of constant, linear"),
        ({"objective": "vendi"}, "objective is 'vendi', but must be one of entropy, renyi2"),
        ({"guidance": "none"}, "guidance is 'none', but must be one of conditional, both"),
    ],
)
def test_settings_that_cannot_be_used(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Repulsion(**change)


def test_settings_from_numpy_are_plain_numbers() -> None:
    found = Repulsion(strength=np.float32(0.5), eta=np.float32(2), steps=np.int64(3), iterations=np.int32(4))
    assert json.loads(json.dumps(asdict(found))) == asdict(Repulsion(strength=0.5, eta=2.0, steps=3, iterations=4))
