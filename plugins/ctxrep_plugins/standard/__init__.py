"""What comes with ctxrep-edit: the contextual strategy, the default checks, and the usual files.

These are small doors to the core; each takes the same way in as anybody's plugin.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ctxrep_plugins.checks import objects, outside
from ctxrep_plugins.checks.following import Following
from ctxrep_plugins.report import Report

from ctxrep_edit import Check, Embedder, Exporter, Run, Strategy, hookimpl

if TYPE_CHECKING:
    import torch

    from ctxrep_edit import EditSet

ctxrep_api = "1.0"


class Contextual(Strategy):
    """Dahary et al. 2026, arXiv 2603.28762."""

    name = "contextual"
    summary = "repulsion of the contextual tokens after each block, in the first timesteps"
    repels = True

    def sample(self, run: Run) -> torch.Tensor:
        from ctxrep_edit import repelled

        with repelled(
            run.pipeline,
            run.settings,
            particles=run.n,
            instruction=run.instruction,
            adapter=run.adapter,
            bank=run.bank,
        ) as attachment:
            images = run.call()
        run.still = int(run.settings.anchor)
        run.contextual_vendi = attachment.mean_vendi
        return images


class AlexNet(Embedder):
    """See `ctxrep_edit.perceptual.features`."""

    name = "alexnet"
    summary = "the activations of AlexNet that LPIPS compares, averaged over the picture"

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        from ctxrep_edit import alexnet_features

        return alexnet_features(images)


class Pictures(Exporter):
    name = "png"
    summary = "edit-1.png ..., each with its recipe in a text chunk"

    def export(self, edits: EditSet, folder: Path) -> None:
        from ctxrep_edit import encode_png

        for edit in edits:
            recipe = {"instruction": edits.instruction, **edits.recipe, **edit.to_dict()}
            (folder / f"edit-{edit.index + 1}.png").write_bytes(encode_png(edit.image, json.dumps(recipe)))


class Sheet(Exporter):
    name = "sheet"
    summary = "sheet.png, source and edits in one labelled picture"

    def export(self, edits: EditSet, folder: Path) -> None:
        from ctxrep_edit import encode_png

        (folder / "sheet.png").write_bytes(encode_png(edits.sheet()))


class Sidecar(Exporter):
    name = "json"
    summary = "edits.json, everything but the pixels"

    def export(self, edits: EditSet, folder: Path) -> None:
        (folder / "edits.json").write_text(json.dumps(edits.to_dict(), indent=2) + "\n", "utf-8")


@hookimpl
def ctxrep_strategies() -> Iterable[Strategy]:
    return [Contextual()]


@hookimpl
def ctxrep_checks() -> Iterable[Check]:
    return [*(check() for check in (*outside.CHECKS, *objects.CHECKS)), Following()]


@hookimpl
def ctxrep_embedders() -> Iterable[Embedder]:
    return [AlexNet()]


@hookimpl
def ctxrep_exporters() -> Iterable[Exporter]:
    return [Pictures(), Sheet(), Sidecar(), Report()]
