"""Measures the default checks where the truth is known: right edits, planted faults, and the model's own edits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from ctxrep_plugins.bench.tasks import Task, strictly, tasks
from ctxrep_plugins.nano import world
from ctxrep_plugins.nano.right_answer import RightAnswer
from ctxrep_plugins.nano.world import faults, photos
from ctxrep_plugins.nano.world.judge import Judge, Ruling
from diffusers import AutoencoderKLQwenImage
from torch import Tensor

from ctxrep_edit import CHECKS, DEFAULT_CHECKS, Case, InputError, diverse_edit, judge, round_trip, to_tensor

SIZE = 6  # edits of a set
RARE = 2  # sets with a rare answer, of each crop and edit
NEAR = 5  # pixels: so far around an edit its autoencoder may blur it
ROOM = 0.25  # share of the picture that a mask must have


@dataclass
class Findings:
    """Per group of edits, such as ("part", "cast", "mask"), whether each was flagged, and by which checks; per kind of
    edit the IoU of each estimated region; per set whether part and whole were told apart; and per way of retrying, for
    each set, the right edits and the distinct right answers (before, after)."""

    flagged: dict[tuple[str, str, str], list[bool]] = field(default_factory=lambda: defaultdict(list))
    by: dict[tuple[str, str, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    iou: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    told_apart: list[bool] = field(default_factory=list)
    retried: dict[str, list[tuple[tuple[int, int], tuple[int, int]]]] = field(default_factory=lambda: defaultdict(list))

    def note(self, kind: str, group: str, mask: str, case: Case, which: int | None = None) -> None:
        """Asks the default checks about all edits of a case, or one."""
        said = judge(case, [CHECKS.get(name) for name in DEFAULT_CHECKS])
        for verdicts in said if which is None else [said[which]]:
            objections = [name for name, verdict in verdicts.items() if verdict.objects]
            self.flagged[kind, group, mask].append(bool(objections))
            self.by[kind, group, mask] += objections


@dataclass(frozen=True)
class Crop:
    """A crop as (1, 3, h, w), through the autoencoder too, and as the world takes it."""

    picture: world.Picture
    source: Tensor
    trip: Tensor

    def case(self, edits: Tensor, instruction: str, mask: Tensor | None = None, plain: bool = False) -> Case:
        return Case(self.source, edits, mask, instruction, plain, lambda: self.trip)

    def restored(self, edits: Tensor, mask: Tensor) -> Case:
        return Case(self.source, edits, mask, "", False, lambda: self.trip, restore=True)


def measure(pipeline: Any, count: int, sampled: int, seed: int) -> Findings:
    """`count` crops of the held-out photographs with exact edits, the first `sampled` of them with the model's too.

    Exact edits: the rendered answers, sent through the autoencoder, in sets of six; each fault is planted in the first,
    or nothing is done in it. Some sets are one rare answer among five typical ones. Raises InputError for a model that
    does not edit at the world's own sizes.
    """
    if isinstance(pipeline.vae, AutoencoderKLQwenImage):
        raise InputError(
            "What the checks catch is measured at the sizes of the world, and qwen-nano shows each pixel as a square "
            "of many: name kontext-nano, whose edits it follows, or sd3-nano."
        )
    found = Findings()
    for number, task in enumerate(_open_tasks(count, seed)):
        crop = Crop(task.picture, _tensor(task.picture[None]), round_trip(pipeline, _tensor(task.picture[None])))
        _exact(found, pipeline, crop, task.request.edit, np.random.default_rng([seed, number]))
        _rare(found, pipeline, crop, task.request.edit, np.random.default_rng([seed, number, 1]))
        if task.photo < sampled:
            _sampled(found, pipeline, crop, task)
    return found


def _open_tasks(count: int, seed: int) -> Iterator[Task]:
    return (task for task in tasks(photos.held_out(), count, seed) if not task.request.pins)


def _exact(found: Findings, pipeline: Any, crop: Crop, edit: world.Edit, rng: np.random.Generator) -> None:
    kind = "part" if edit.local else "whole"
    answers = [edit.answers[i] for i in rng.integers(len(edit.answers), size=SIZE)]
    exact = np.stack([world.render(edit, crop.picture, answer) for answer in answers])
    changed = np.abs(exact - crop.picture).max(-1) > 1 / 255  # (n, h, w)
    regions = torch.nn.functional.max_pool2d(torch.from_numpy(changed)[:, None].float(), 3, 1, 1)[:, 0] > 0
    right = round_trip(pipeline, _tensor(exact))
    case = crop.case(right, edit.name)
    found.note(kind, "right", "estimated", case)
    _regions(found, case, edit, regions, [True] * SIZE)
    mask = regions[0] if edit.local else torch.ones_like(regions[0])
    found.note(kind, "right", "mask", crop.case(right[:1], edit.name, mask))
    found.note(kind, "empty", "estimated", crop.case(torch.cat([crop.trip, right[1:]]), edit.name), 0)
    found.note(kind, "empty", "mask", crop.case(crop.trip, edit.name, mask))
    for fault in faults.FAULTS:
        if fault == "cast" and not edit.local:  # what a cast is, only the words can say
            continue
        picture = faults.plant(fault, crop.picture, changed[0] & edit.local, rng)
        if picture is None:
            continue
        wrong = round_trip(pipeline, _tensor(world.render(edit, picture, answers[0])[None]))  # (1, 3, h, w)
        found.note(kind, fault, "estimated", crop.case(torch.cat([wrong, right[1:]]), edit.name), 0)
        found.note(kind, fault, "mask", crop.case(wrong, edit.name, mask))


def _rare(found: Findings, pipeline: Any, crop: Crop, edit: world.Edit, rng: np.random.Generator) -> None:
    typical, *others = edit.answers
    for which in rng.choice(len(others), RARE, replace=False):
        exact = [world.render(edit, crop.picture, answer) for answer in (others[which], typical)]
        odd, usual = round_trip(pipeline, _tensor(np.stack(exact)))  # (3, h, w)
        case = crop.case(torch.stack([odd, *[usual] * (SIZE - 1)]), edit.name)
        found.note("part" if edit.local else "whole", "right, alone of its kind", "estimated", case, 0)


def _sampled(found: Findings, pipeline: Any, crop: Crop, task: Task) -> None:
    edit, rule = task.request.edit, Judge(task.request.edit, task.picture, pipeline)
    kind = "part" if edit.local else "whole"
    for name, strength in (("plain", 0.0), ("repelled", "auto")):
        images = _made(pipeline, task, strength=strength, preserve="off")
        rulings = [rule(image) for image in images]
        case = crop.case(images, task.request.text, plain=name == "repelled")
        for i, ruling in enumerate(rulings):
            found.note(kind, f"{name}, {'right' if ruling.right else 'wrong'}", "estimated", case, i)
            elsewhere = ~_grown(ruling.region)
            if ruling.right and elsewhere.float().mean() >= ROOM:  # what was asked for there was not done
                found.note(kind, f"{name}, elsewhere", "mask", crop.restored(images[i : i + 1], elsewhere))
        _regions(found, case, edit, torch.stack([r.region for r in rulings]), [r.right for r in rulings], f"{name} ")
    before = _counted(rulings, task)
    for way, more in (("default checks", []), ("default checks and right-answer", [RightAnswer(pipeline)])):
        images = _made(pipeline, task, preserve=[*DEFAULT_CHECKS, *more], on_unfaithful="retry")
        found.retried[way].append((before, _counted([rule(image) for image in images], task)))


def _made(pipeline: Any, task: Task, **options: Any) -> Tensor:
    """SIZE edits by the model: (SIZE, 3, h, w)."""
    with strictly():
        edits = diverse_edit(
            task.picture, task.request.text, SIZE, pipeline=pipeline, seed=task.seed, progress=False, **options
        )
    return torch.cat([to_tensor(image) for image in edits.images])


def _counted(rulings: Sequence[Ruling], task: Task) -> tuple[int, int]:
    """How many edits are right, and how many different right answers they are."""
    right = [ruling.answer for ruling in rulings if ruling.right and ruling.answer in task.request.answers]
    return len(right), len(set(right))


def _regions(
    found: Findings, case: Case, edit: world.Edit, regions: Tensor, right: list[bool], group: str = ""
) -> None:
    found.told_apart.append((case.evidence.where == "whole") != edit.local)
    for estimate, truth, counts in zip(case.evidence.regions, regions, right, strict=True):
        if edit.local and counts:
            either = float((estimate | truth).sum())
            found.iou[group + edit.name].append(float((estimate & truth).sum()) / max(either, 1.0))


def _grown(region: Tensor) -> Tensor:
    """bool (h, w) and what is near."""
    return torch.nn.functional.max_pool2d(region[None, None].float(), 2 * NEAR + 1, 1, NEAR)[0, 0] > 0


def _tensor(pictures: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2)  # (n, 3, h, w)
