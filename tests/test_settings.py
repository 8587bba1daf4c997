"""What the settings of the repulsion may be."""

import itertools
import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from ctxrep_adapters.flux_kontext import FluxKontext

from ctxrep_edit import InputError, Repulsion, attach, default_settings, detach
from ctxrep_edit.settings import BASE, completed


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
        ({"strength": True}, "strength is True, but must be a finite number"),
        ({"steps": True}, "steps of the repulsion is True"),
        ({"anchor": "yes"}, "anchor is 'yes', but must be True or False"),
        ({"guidance": "none"}, "guidance is 'none', but must be one of conditional, both"),
        ({"window": 0}, "window is 0, but must be a number above 0 and up to 1: the share of the noise range"),
        ({"window": 1.5}, "window is 1.5"),
        ({"window": float("nan")}, "window is nan"),
        ({"oversample": 0}, "oversample of the repulsion is 0, but must be a whole number >= 1"),
    ],
)
def test_settings_that_cannot_be_used(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Repulsion(**change)


def test_settings_from_numpy_are_plain_numbers() -> None:
    found = Repulsion(
        strength=np.float32(0.5), eta=np.float32(2), window=np.float64(0.25), steps=np.int64(3), iterations=np.int32(4)
    )
    wanted = Repulsion(strength=0.5, eta=2.0, window=0.25, steps=3, iterations=4)
    assert json.loads(json.dumps(asdict(found))) == asdict(wanted)


def test_what_is_left_out_is_the_models(pipeline: Any) -> None:
    default = default_settings(pipeline)
    assert (default.scope, default.steps, default.schedule, default.anchor) == ("middle", None, "linear", True)
    run = attach(pipeline, Repulsion(scope="context"), particles=2)
    detach(run)
    assert run.settings == replace(default, scope="context")


def test_the_papers_scope_keeps_its_iterations(pipeline: Any) -> None:
    for asked, wanted in ((Repulsion(scope="paper"), 50), (Repulsion(scope="paper", iterations=7), 7), (None, 5)):
        run = attach(pipeline, asked, particles=2)
        detach(run)
        assert run.settings.iterations == wanted


def test_strength_and_eta_say_the_same(pipeline: Any) -> None:
    raw = Repulsion(eta=3.0)
    assert completed(Repulsion(strength=0.5), raw).eta is None
    assert completed(Repulsion(), raw, FluxKontext.default).eta == 3.0
    assert completed(Repulsion()) == BASE


def test_window_and_steps_say_the_same() -> None:
    taus = Repulsion(steps=3)
    assert completed(Repulsion(window=0.2), taus).steps is None
    assert completed(Repulsion(), taus, FluxKontext.default).steps == 3
    assert completed(Repulsion(steps=2), FluxKontext.default).steps == 2
    assert completed(Repulsion(), taus, Repulsion(window=0.1, hold=0.06)).hold == 0


def levels(steps: int, shift: float) -> list[float]:
    """Noise before each of that many steps of a shifted flow, and after the last one."""
    times = np.linspace(1, 0, steps + 1)
    return [float(shift * t / (1 + (shift - 1) * t)) for t in times]


@pytest.mark.parametrize("schedule", ["constant", "linear"])
@pytest.mark.parametrize("window", [0.1, 0.5, 1.0])
def test_a_window_means_the_same_for_any_steps(schedule: Any, window: float) -> None:
    """What a step takes away of the noise times its share of the push adds up to the same, as an integral does."""
    settings = Repulsion(window=window, schedule=schedule)
    for steps in (1, 4, 12, 28, 50):
        for shift in (1.0, 3.0):
            noise = levels(steps, shift)
            pairs = list(itertools.pairwise(noise))
            shares = [settings.share(k, pair) for k, pair in enumerate(pairs)]
            total = sum(share * (a - b) for share, (a, b) in zip(shares, pairs, strict=True))
            assert total == pytest.approx(window if schedule == "constant" else window / 2)
            assert shares == pytest.approx(sorted(shares, reverse=True))
            assert [share > 0 for share in shares] == [a > 1 - window + 1e-6 for a, _ in pairs]
