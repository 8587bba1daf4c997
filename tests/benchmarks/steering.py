"""What steering does, on photographs whose right answers are known: python tests/benchmarks/steering.py walk --photos 2

walk: of each set, two right edits with different answers, and seven pictures from one to the other: through contextual
space (`EditSet.between`), by tokens from the noise of the first alone, by noise alone, and in latents, straight or on
an arc, from those that both had at the end of the window. Printed are, of the five on the way, the share right and
LPIPS outside, and of the seven, how often the nearest answer changes, how many right ones are neither end's, and the
largest step beside the distance of the ends.

like: variations of one right edit at several spreads, three each: the mean distance to it, share right, and the rank
correlation of spread and distance. "tokens" and "noise" pull just these towards the edit.

sheet: a walk and variations of an edit of scikit-image's astronaut, as one picture: docs/images/steering.png.

--model NAME and --way NAME, repeatable; --folder FOLDER for other photographs; --trials FILE keeps what is done, and
goes on from it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from ctxrep_plugins.bench.tasks import Task
from ctxrep_plugins.nano.world.judge import Judge
from PIL import Image
from resumed import measured, parser
from torch import Tensor
from torch.nn.functional import normalize

from ctxrep_edit import EMBEDDERS, EditSet, Run, contact_sheet, diverse_edit, load_pipeline, lpips_maps, to_tensor
from ctxrep_edit.sampling.noise import turned
from ctxrep_edit.sampling.steering import Between, Like

SHARES = [i / 6 for i in range(7)]
SPREADS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
PLAIN = {"preserve": "off", "progress": False}


class OneNoise(Between):
    """Tokens move, noise stays that of the first."""

    def at_work(self, run: Run, steer: Any, noises: Any, share: float) -> Any:
        return super().at_work(run, steer, [self.edits[0].seed] * len(noises), share)


class NoiseAlone(Between):
    """Noise moves, tokens are left."""

    def at_work(self, run: Run, steer: Any, noises: Any, share: float) -> Any:
        return super().at_work(run, lambda place, parts: list(parts), noises, share)


class InLatents(Between):
    """Latents at the end of the window. ends: those of both. last: the last step of the window."""

    name = "latents"
    ends: tuple[Tensor, Tensor]
    arc: bool
    last: int

    def sample(self, run: Run) -> Tensor:
        def after(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            if step != self.last:
                return tensors
            one, other = self.ends
            mixed = [turned(one, other, t) if self.arc else torch.lerp(one, other, t) for t in self.shares]
            return {**tensors, "latents": torch.stack(mixed).to(tensors["latents"])}

        return run.call(after_step=after)


class LikeByNoise(Like):
    def at_work(self, run: Run, steer: Any, noises: Any, share: float) -> Any:
        return super().at_work(run, lambda place, parts: list(parts), noises, share)


class LikeByTokens(Like):
    def at_work(self, run: Run, steer: Any, noises: Any, share: float) -> Any:
        own = [generator.initial_seed() for generator in run.arguments["generator"]]
        return super().at_work(run, steer, own, share)


def pictures(edits: EditSet) -> Tensor:
    """(n, 3, h, w) in [0, 1]"""
    return torch.cat([to_tensor(image) for image in edits.images])


def start(task: Task, pipeline: Any) -> tuple[EditSet, dict[int, Tensor], Judge, list[Any]]:
    """A default set, its latents after each step, and the rulings on it."""
    latents: dict[int, Tensor] = {}

    def note(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        latents[step] = tensors["latents"].clone()
        return tensors

    edits = diverse_edit(
        task.picture, task.request.text, 6, pipeline=pipeline, seed=task.seed, bank="memory",
        callback_on_step_end=note, **PLAIN,
    )  # fmt: skip
    judge = Judge(task.request.edit, task.picture, pipeline)
    return edits, latents, judge, [judge(image) for image in pictures(edits)]


def walks(task: Task, pipeline: Any, only: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    edits, latents, judge, rulings = start(task, pipeline)
    right = [i for i, ruling in enumerate(rulings) if ruling.right]
    pair = next(((i, j) for i in right for j in right if i < j and rulings[i].answer != rulings[j].answer), None)
    if pair is None:
        return
    one, other = (edits[i] for i in pair)
    last = max(place[0] for place in one.trace.memory)
    ends = tuple(latents[last][edits.recipe["started"].index(edit.seed)] for edit in (one, other))
    source = to_tensor(Image.fromarray((task.picture * 255).round().astype(np.uint8)))
    for name, kind in (
        ("contextual", Between), ("tokens, one noise", OneNoise), ("noise alone", NoiseAlone),
        ("latents, straight", InLatents), ("latents, arc", InLatents),
    ):  # fmt: skip
        if only and name not in only:
            continue
        way = kind(one, other, SHARES, 0)
        way.ends, way.last, way.arc = ends, last, name.endswith("arc")
        walk = pictures(
            diverse_edit(
                task.picture, task.request.text, 7, pipeline=pipeline, seed=0, strategy=way, oversample=1, bank="off",
                **PLAIN,
            )
        )  # fmt: skip
        found = [judge(image) for image in walk]
        regions = torch.stack([ruling.region for ruling in found])  # (7, h, w)
        maps = lpips_maps(torch.where(regions[:, None], source, walk), source)  # (7, h, w)
        outside = [float(m[~region].mean()) for m, region in zip(maps, regions, strict=True) if (~region).any()]
        sizes = (walk[1:] - walk[:-1]).abs().mean((1, 2, 3))  # (6,)
        whole = pictures(edits)[list(pair)]
        answers = [rulings[i].answer for i in pair]
        yield {
            "way": name, "edit": task.request.edit.name,
            "right": float(np.mean([ruling.right for ruling in found[1:-1]])),
            "outside": float(np.mean(outside[1:-1])) if len(outside) == 7 else None,
            "changes": sum(a.answer != b.answer for a, b in itertools.pairwise(found)),
            "others": len({ruling.answer for ruling in found if ruling.right} - set(answers)),
            "largest step": float(sizes.max() / (whole[0] - whole[1]).abs().mean()),
            "ends": float((walk[[0, -1]] - whole).abs().max() * 255),
            "reached": found[-1].answer == answers[1],
        }  # fmt: skip


def variations(task: Task, pipeline: Any, only: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    edits, _, judge, rulings = start(task, pipeline)
    liked = next((i for i in range(5, 0, -1) if rulings[i].right), None)
    if liked is None:
        return
    embedder, picture = EMBEDDERS.get("alexnet-layout"), pictures(edits)[liked : liked + 1]
    for name, kind in (("both", Like), ("noise", LikeByNoise), ("tokens", LikeByTokens)):
        if only and name not in only:
            continue
        for spread in SPREADS:
            near = diverse_edit(
                task.picture, task.request.text, 3, pipeline=pipeline, seed=task.seed + 100, oversample=1, bank="off",
                strategy=kind(edits[liked], spread), **PLAIN,
            )  # fmt: skip
            made = pictures(near)
            features = normalize(embedder.embed(torch.cat([picture, made])).double())  # (1 + 3, numbers)
            found = [judge(image) for image in made]
            yield {
                "way": name, "edit": task.request.edit.name, "spread": spread,
                "lpips": float(lpips_maps(made, picture.expand_as(made)).mean()),
                "distance": float((1 - features[1:] @ features[0]).mean()),
                "right": float(np.mean([ruling.right for ruling in found])),
                "same answer": float(np.mean([ruling.answer == rulings[liked].answer for ruling in found])),
            }  # fmt: skip


def sheet() -> None:
    from skimage import data

    pipeline = load_pipeline("sd3-nano", progress=False)
    edits = diverse_edit(data.astronaut(), "add a frame", 4, pipeline=pipeline, seed=4, **PLAIN)
    rows = [edits.row("diverse_edit"), edits.between(1, 3, 6, progress=False).row("between(1, 3, count=6)")]
    rows += [edits.like(1, 3, spread=some, progress=False).row(f"like(1, 3, spread={some})") for some in (0.3, 0.6)]
    contact_sheet(rows).quantize(128).save("docs/images/steering.png", optimize=True)


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(one, other).statistic)


def interval(values: Sequence[float], digits: int = 3) -> str:
    """The mean with a 95 % interval, by bootstrap over sets."""
    some = np.asarray([value for value in values if value is not None], float)
    if not len(some):
        return "-"
    rng = np.random.default_rng(0)
    means = some[rng.integers(len(some), size=(2000, len(some)))].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return f"{some.mean():.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def told(what: str, rows: Sequence[dict[str, Any]]) -> None:
    """Prints the tables of one model."""
    ways = list(dict.fromkeys(row["way"] for row in rows))
    if what == "walk":
        kinds = ("right", "outside", "changes", "others", "largest step", "ends", "reached")
        print(f"| | {' | '.join(kinds)} |\n|---|{'---|' * len(kinds)}")
        for way in ways:
            mine = [row for row in rows if row["way"] == way]
            print(f"| {way} | " + " | ".join(interval([row[kind] for row in mine]) for kind in kinds) + " |")
        return
    for way in ways:
        mine = [row for row in rows if row["way"] == way]
        kinds = ("lpips", "distance", "right", "same answer")
        print(
            f"\n{way}, {len(mine) // len(SPREADS)} sets\n| spread | {' | '.join(kinds)} |\n|---|{'---|' * len(kinds)}"
        )
        means: dict[str, list[float]] = {kind: [] for kind in kinds}
        for spread in SPREADS:
            here = [row for row in mine if row["spread"] == spread]
            print(f"| {spread} | {' | '.join(interval([row[kind] for row in here]) for kind in kinds)} |")
            for kind, values in means.items():
                values.append(float(np.mean([row[kind] for row in here])))
        each = [mine[i : i + len(SPREADS)] for i in range(0, len(mine), len(SPREADS))]
        for kind in ("lpips", "distance"):
            single = [rank_correlation(SPREADS, [row[kind] for row in some]) for some in each]
            print(
                f"rank correlation with {kind}: of means {rank_correlation(SPREADS, means[kind]):.2f}, by set", end=""
            )
            print(f" {interval(single)}")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("what", choices=["walk", "like", "sheet"])
    options.add_argument("--way", action="append")
    asked = options.parse_args()
    if asked.what == "sheet":
        sheet()
        return
    make = walks if asked.what == "walk" else variations

    def key(task: Task) -> str | None:
        return None if task.request.pins else f"{task.photo} {task.request.edit.name} {asked.way or 'all'}"

    for model, done in measured(asked, f"{asked.what}-", key, lambda task, pipe: list(make(task, pipe, asked.way))):
        print(f"\n{model}, {sum(map(bool, done.values()))} sets")
        told(asked.what, [row for rows in done.values() for row in rows])


if __name__ == "__main__":
    main()
