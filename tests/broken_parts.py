"""Strategies, checks, embedders and exporters that are wrong in one thing each, for the tests of the kit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ctxrep_edit import (
    Case,
    Check,
    EditSet,
    Embedder,
    Exporter,
    Run,
    Strategy,
    Verdict,
    repelled,
)


class _Broken:
    name = "broken"
    summary = "wrong in one thing"


# Strategies


class _Strategy(_Broken, Strategy):
    def sample(self, run: Run) -> Tensor:
        return 0.9 * run.call()


class Speechless(_Strategy):
    summary = " "


class Powerless(_Strategy):
    strength = 0.0


class TooBright(_Strategy):
    def sample(self, run: Run) -> Tensor:
        return 2 * run.call()


class TooFew(_Strategy):
    def sample(self, run: Run) -> Tensor:
        return run.call()[1:]


class Moody(_Strategy):
    calls = 1

    def sample(self, run: Run) -> Tensor:
        self.calls += 1
        return run.call() / self.calls


class Idle(_Strategy):
    def sample(self, run: Run) -> Tensor:
        return run.call()


class NotStill(_Strategy):
    def sample(self, run: Run) -> Tensor:
        run.still = 1
        return super().sample(run)


class OneSeed(_Strategy):
    def sample(self, run: Run) -> Tensor:
        run.seeds = [run.seeds[0]] * run.n
        return super().sample(run)


class Boastful(_Strategy):
    def sample(self, run: Run) -> Tensor:
        run.contextual_vendi = (1.0, 7.0)
        return super().sample(run)


class Solitary(_Strategy):
    def sample(self, run: Run) -> Tensor:
        images: Tensor = run.pipeline(**run.arguments).images
        return images


class Careless(_Strategy):
    """Takes its hook off only where all goes well."""

    def sample(self, run: Run) -> Tensor:
        handle = run.pipeline.transformer.transformer_blocks[0].register_forward_hook(lambda *_: None)
        images = super().sample(run)
        handle.remove()
        return images


class Forgetful(_Strategy):
    def sample(self, run: Run) -> Tensor:
        run.pipeline.transformer.transformer_blocks[0].register_forward_hook(lambda *_: None)
        return super().sample(run)


# Strategies that steer


class _Repelling(_Broken, Strategy):
    """Candidates are pulled half of the way to the first."""

    repels = True

    def sample(self, run: Run) -> Tensor:
        with self.repelled(run, bank=run.bank, ranks=run.ranks):
            return run.call()

    def repelled(self, run: Run, **options: Any) -> Any:
        return repelled(
            run.pipeline, run.settings, particles=run.n, instruction=run.instruction, adapter=run.adapter,
            steer=self.steer, **options,
        )  # fmt: skip

    def steer(self, place: Any, parts: Any) -> Any:
        return [replace(part, tokens=part.put(self.moved(part.selected))) for part in parts]

    def moved(self, tokens: Tensor) -> Tensor:
        return tokens.lerp(tokens[:1], 0.5)


class Hoarding(_Repelling):
    def sample(self, run: Run) -> Tensor:
        with self.repelled(run, ranks=run.ranks):
            return run.call()


class Rankless(_Repelling):
    def sample(self, run: Run) -> Tensor:
        with self.repelled(run, bank=run.bank):
            return run.call()


class Boundless(_Repelling):
    def moved(self, tokens: Tensor) -> Tensor:
        return tokens / 0


class Halved(_Repelling):
    def steer(self, place: Any, parts: Any) -> Any:
        return [replace(part, tokens=part.tokens.half()) for part in parts]


class Everywhere(_Repelling):
    def steer(self, place: Any, parts: Any) -> Any:
        return [replace(part, tokens=self.moved(part.tokens)) for part in parts]


class Motionless(_Repelling):
    def moved(self, tokens: Tensor) -> Tensor:
        return tokens


class Steered(_Repelling):
    def steer(self, place: Any, parts: Any) -> Any:
        for part in parts:
            part.tokens.mul_(0.9)
        return parts


class Wilful(_Repelling):
    calls = 0

    def moved(self, tokens: Tensor) -> Tensor:
        self.calls += 1
        return tokens / self.calls


# Checks


def verdict(value: Any = 0.5, **details: Any) -> Verdict:
    return Verdict(True, "brightness", value, 1.0, "it is bright", details)


class _Check(_Broken, Check):
    def verdicts(self, case: Case) -> Sequence[Verdict]:
        return [verdict(float(edit.mean())) for edit in case.edits]


class Nameless(_Check):
    name = None  # type: ignore[assignment]


class OneVerdict(_Check):
    def verdicts(self, case: Case) -> Sequence[Verdict]:
        return [verdict()]


class Booleans(_Check):
    def verdicts(self, case: Case) -> Any:
        return [True for _ in case.edits]


class Infinite(_Check):
    def verdicts(self, case: Case) -> Sequence[Verdict]:
        return [verdict(math.inf) for _ in case.edits]


class Tensors(_Check):
    def verdicts(self, case: Case) -> Sequence[Verdict]:
        return [verdict(edit.mean()) for edit in case.edits]


class NoJson(_Check):
    def verdicts(self, case: Case) -> Sequence[Verdict]:
        return [verdict(region=case.source) for _ in case.edits]


class Sorted(_Check):
    def verdicts(self, case: Case) -> Sequence[Verdict]:
        return sorted(super().verdicts(case), key=lambda said: said.value)


class Clamping(_Check):
    def verdicts(self, case: Case) -> Sequence[Verdict]:
        case.edits.clamp_(0.2, 0.8)
        return super().verdicts(case)


# Embedders


class _Embedder(_Broken, Embedder):
    def embed(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))


class TwoLines(_Embedder):
    summary = "one\ntwo"


class Maps(_Embedder):
    def embed(self, images: Tensor) -> Tensor:
        return images


class Whole(_Embedder):
    def embed(self, images: Tensor) -> Tensor:
        return (super().embed(images) * 255).long()


class Zeros(_Embedder):
    def embed(self, images: Tensor) -> Tensor:
        return torch.zeros(len(images), 4)


class Noisy(_Embedder):
    def embed(self, images: Tensor) -> Tensor:
        return super().embed(images) + torch.arange(len(images))[:, None]


class Centred(_Embedder):
    def embed(self, images: Tensor) -> Tensor:
        rows = super().embed(images)
        return rows - rows.mean(0)


class Blind(_Embedder):
    def embed(self, images: Tensor) -> Tensor:
        return torch.ones(len(images), 4)


class InPlace(_Embedder):
    def embed(self, images: Tensor) -> Tensor:
        return super().embed(images.mul_(0.5))


# Exporters


class _Exporter(_Broken, Exporter):
    def export(self, edits: EditSet, folder: Path) -> None:
        (folder / "edits.txt").write_text(edits.instruction, "utf-8")


class Untitled(_Exporter):
    name = ""


class Beside(_Exporter):
    def export(self, edits: EditSet, folder: Path) -> None:
        Path("beside.txt").write_text(edits.instruction, "utf-8")


class Nothing(_Exporter):
    def export(self, edits: EditSet, folder: Path) -> None: ...


class Numbered(_Exporter):
    calls = 0

    def export(self, edits: EditSet, folder: Path) -> None:
        self.calls += 1
        (folder / f"{self.calls}.txt").write_text(edits.instruction, "utf-8")


class NeedsVerdicts(_Exporter):
    def export(self, edits: EditSet, folder: Path) -> None:
        (folder / "edits.txt").write_text(edits[0].verdict.reason, "utf-8")  # type: ignore[union-attr]


class Painting(_Exporter):
    def export(self, edits: EditSet, folder: Path) -> None:
        edits[0].image.paste(0, (0, 0, 9, 9))
        super().export(edits, folder)
