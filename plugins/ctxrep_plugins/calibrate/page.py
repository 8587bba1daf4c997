"""The report: curves over the strength, one row a setting, and what each setting makes, for eyes that overrule it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ctxrep_plugins.calibrate.curves import Curve, Plot, plot
from ctxrep_plugins.calibrate.design import Cell
from ctxrep_plugins.calibrate.rule import LOSSES, Ruling
from ctxrep_plugins.calibrate.running import Calibration
from ctxrep_plugins.calibrate.state import PLAIN, SHOWN
from ctxrep_plugins.shared import write

from ctxrep_edit import encode_json


def report(run: Calibration, taken: Cell | None, file: Path, by_hand: bool = False) -> Path:
    """Writes the page. taken: the setting that is kept; None: none is. by_hand: a person took it, not the rule."""
    from jinja2 import Environment

    found = run.rulings
    order = sorted(found, key=lambda cell: (cell != taken, *(-part for part in map(float, found[cell].rank))))
    template = Path(__file__).with_name("calibrate.html.jinja").read_text("utf-8")
    text = (
        Environment(autoescape=True)
        .from_string(template)
        .render(
            run=run,
            verdict=run.verdict(taken, by_hand),
            taken=taken,
            rows=[(cell, found[cell]) for cell in order],
            losses={
                name: what for name, (what, _) in LOSSES.items() if any(_loss(one, name) for one in found.values())
            },
            loss=_loss,
            plots=_plots(found),
            sheets=[(PLAIN, _sheets(run, PLAIN)), *((cell.label, _sheets(run, cell.label)) for cell in order)],
            before=encode_json(run.before, None),
            asked=encode_json(run.state.asked),
        )
    )
    write(file, text.encode())
    return file


def _loss(one: Ruling, name: str) -> Any:
    return next((loss for loss in one.losses if loss.name == name), None)


def _plots(found: Mapping[Cell, Ruling]) -> list[Plot]:
    """Each over the strength, with a curve per scope, in the window that most settings have."""
    if not found:
        return []
    windows = [cell.window for cell in found]
    window = max(set(windows), key=windows.count)
    shown = sorted((cell for cell in found if cell.window == window), key=lambda cell: cell.strength)
    scopes = list(dict.fromkeys(cell.scope for cell in shown))

    def curves(value: Any) -> list[Curve]:
        return [
            Curve(scope, [(cell.strength, value(found[cell])) for cell in shown if cell.scope == scope])
            for scope in scopes
        ]

    title = f"window {window:g}"
    plots = [plot(f"spread over plain's, {title}", curves(lambda one: one.gain[0]), level=1.0)]
    for name, (what, _) in LOSSES.items():
        known = [cell for cell in shown if _loss(found[cell], name)]
        if known:
            most = max(known, key=lambda cell: found[cell].tasks)
            one = _loss(found[most], name)
            values = curves(lambda ruling, name=name: getattr(_loss(ruling, name), "value", None))
            plots.append(plot(f"{what}, {title}", values, level=one.plain, bound=one.bound))
    return plots


def _sheets(run: Calibration, label: str) -> Sequence[str]:
    """Contact sheets as URLs, of the first tasks."""
    files = (run.state.sheet(label, task) for task in range(SHOWN))
    return ["data:image/webp;base64," + base64.b64encode(file.read_bytes()).decode() for file in files if file.exists()]
