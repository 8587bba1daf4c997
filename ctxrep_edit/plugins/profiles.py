"""What a model's folder says about itself, and the settings that follow."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ctxrep_edit.errors import ModelError
from ctxrep_edit.plugins import catalog
from ctxrep_edit.plugins.adapter import Adapter
from ctxrep_edit.settings import UNSAID, Repulsion, completed

PROFILE = "ctxrep.json"


@dataclass(frozen=True)
class Profile:
    """What a model folder may state about itself in `ctxrep.json`.

    sizes: (width, height) in pixels that the model edits at; empty: the adapter decides. call: default arguments of
    the pipeline. repulsion: settings that differ from the adapter's defaults.
    """

    sizes: tuple[tuple[int, int], ...] = ()
    call: Mapping[str, Any] = field(default_factory=dict)
    repulsion: Mapping[str, Any] = field(default_factory=dict)

    def size(self, width: int, height: int) -> tuple[int, int] | None:
        """The size whose aspect is nearest to width / height, in ratio; None where the model states none."""
        if not self.sizes:
            return None
        aspect = width / height
        return min(self.sizes, key=lambda s: max(aspect * s[1] / s[0], s[0] / (s[1] * aspect)))


def default_settings(pipeline: Any) -> Repulsion:
    """What is used on `pipeline` if nothing is said: the defaults of its folder, and of its adapter."""
    return settings_for(pipeline, Repulsion())


def settings_for(pipeline: Any, asked: Repulsion, adapter: Adapter | None = None) -> Repulsion:
    """`asked`, with what it leaves out as the scope, the model's folder or its family states it. Raises InputError."""
    adapter = adapter or catalog.adapter_for(pipeline)
    stated = Repulsion(**profile(pipeline).repulsion)
    scope = adapter.scope(asked.scope or stated.scope)
    return completed(asked, Repulsion(iterations=scope.iterations or UNSAID), stated, adapter.default)


def profile(pipeline: Any) -> Profile:
    """The profile of the folder that `pipeline` was loaded from; an empty one if there is none. Raises ModelError."""
    origin = getattr(pipeline, "config", {}).get("_name_or_path")
    file = Path(origin) / PROFILE if origin else None
    if file is None or not file.is_file():
        return Profile()
    try:
        stated = json.loads(file.read_text("utf-8"))
        stated["sizes"] = tuple((int(w), int(h)) for w, h in stated.get("sizes", ()))
        unknown = set(stated["repulsion"]) - {f.name for f in fields(Repulsion)} if "repulsion" in stated else set()
        if unknown:
            raise ValueError(f"unknown repulsion settings {sorted(unknown)}")
        return Profile(**stated)
    except (ValueError, TypeError, AttributeError) as error:
        raise ModelError(f"The profile {file} cannot be used: {error}. Mend or delete the file.") from error
