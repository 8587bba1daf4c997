"""Edits that are asked for one value each, such as a colour: python tests/benchmarks/values.py --photos 2

Of each edit of the nano world and each of its attributes sets of six are made, by the open instruction and so that
each edit shows a value of its own, or, where there are fewer than six, as few as possible the same one:

default: the open instruction, as ever.
vary: `diverse_edit(vary=...)`: each is asked for its value in words, all repel one another.
pool: vary with oversample=2.
apart: one call for each value, so that edits of other values know nothing of one another.
moved: the open instruction; at each place of the window the tokens of an edit are moved by the difference of those that
two runs have there, one asked for the value in words and one by the open instruction, both from one noise.
pulled: likewise, but they are pulled half of the way to those of the run that was asked for the value.
set: they take their place.

Where a value makes an instruction of another number of words, the last three move the tokens of the image alone.

Printed are the share that shows its value, the share right, LPIPS outside, the entropy over the attribute and over the
other one, where the edit has two, in nats, different right answers, and seconds, with 95 % intervals over sets.
--way NAME, repeatable; --model NAME, likewise; --first CROP and --folder FOLDER for other photographs; --trials FILE
keeps what is done, and goes on from it. --sheet FILE draws docs/images/vary.png instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from along import entropy, flat, put
from ctxrep_plugins.bench.tasks import Task
from ctxrep_plugins.nano.world.judge import Judge
from PIL import Image
from resumed import measured, parser
from steering import PLAIN, interval
from torch import Tensor

from ctxrep_edit import Repulsion, Run, Strategy, contact_sheet, diverse_edit, load_pipeline, lpips_maps, to_tensor
from ctxrep_edit.repulsion.attachment import Steer
from ctxrep_edit.repulsion.bank import Memory, Place
from ctxrep_edit.repulsion.hooks import repelled
from ctxrep_edit.repulsion.tokens import Part

N, HALF = 6, 0.5
WAYS = ("default", "vary", "pool", "apart", "moved", "pulled", "set")
KINDS = ("shows", "right", "outside", "asked", "other", "distinct", "seconds")


class ByTokens(Strategy):
    """Tokens moved as those of runs say that were asked for a value. said: of each candidate's value, and plain."""

    name, summary, repels = "by-tokens", "tokens moved by what a wording does to them", True

    def __init__(self, said: Sequence[Memory], plain: Memory, way: str) -> None:
        self.said, self.plain, self.way = said, plain, way

    def sample(self, run: Run) -> Tensor:
        steer: Steer = self.steer
        with repelled(
            run.pipeline, run.settings, particles=run.n, instruction=run.instruction, adapter=run.adapter, steer=steer
        ):
            return run.call()

    def steer(self, place: Place, parts: Sequence[Part]) -> list[Part]:
        own, last = flat(parts), parts[-1].selected[0].numel()
        rows = []
        for memory, tokens in zip(self.said, own, strict=True):
            there, plain = memory[place].double(), self.plain[place].double()  # (selected, width)
            target, base = tokens.clone(), tokens.clone()
            if there.shape == plain.shape:
                target, base = there.flatten(), plain.flatten()
            elif len(parts) > 1:
                target[-last:], base[-last:] = there.flatten()[-last:], plain.flatten()[-last:]
            moved = {"moved": tokens + target - base, "pulled": torch.lerp(tokens, target, HALF), "set": target}
            rows.append(moved[self.way])
        return put(parts, torch.stack(rows))


def made(task: Task, pipeline: Any, ways: Sequence[str]) -> Iterator[dict[str, Any]]:
    edit, judge = task.request.edit, Judge(task.request.edit, task.picture, pipeline)
    source = to_tensor(Image.fromarray((task.picture * 255).round().astype(np.uint8)))

    def edits(text: str, n: int, **options: Any) -> Any:
        return diverse_edit(task.picture, text, n, pipeline=pipeline, **{"seed": task.seed, **PLAIN, **options})

    def row(way: str, axis: str, values: Sequence[str], some: Sequence[Any], seconds: float) -> dict[str, Any]:
        pictures = torch.cat([to_tensor(one.image) for one in some])  # (6, 3, h, w)
        found, at = [judge(picture) for picture in pictures], list(edit.attributes).index(axis)
        right = [ruling.answer for ruling in found if ruling.right]
        regions = torch.stack([ruling.region for ruling in found])  # (6, h, w)
        maps = lpips_maps(torch.where(regions[:, None], source, pictures), source)  # (6, h, w)
        outside = [float(m[~region].mean()) for m, region in zip(maps, regions, strict=True) if (~region).any()]
        others = [entropy([answer[i] for answer in right]) for i in range(len(edit.attributes)) if i != at]
        return {
            "way": way, "axis": f"{edit.name}: {axis}", "right": len(right) / N, "distinct": len(set(right)),
            "shows": float(np.mean([r.answer[at] == value for r, value in zip(found, values, strict=True)])),
            "outside": float(np.mean(outside)) if len(outside) == N else None, "seconds": seconds,
            "asked": entropy([answer[at] for answer in right]), "other": others[0] if others else None,
        }  # fmt: skip

    default = edits(task.request.text, N, bank="off")
    settings = Repulsion(**{**default.recipe["repulsion"], "oversample": 1})
    changed: dict[str, dict[str, Any]] = {"vary": {}, "pool": {"oversample": 2}}
    for axis, known in edit.attributes.items():
        asked = edit.phrases[(axis,)][0].replace(f"{{{axis}}}", "{}")
        values, ones, runs = [known[i % len(known)] for i in range(N)], list(known[:N]), list[Any]()
        for way in ways:
            if way == "default":
                some, seconds = list(default), default.seconds
            elif way in changed:
                whole = edits(asked, N, vary=ones, **changed[way])
                some, seconds = list(whole), whole.seconds
            elif way == "apart":
                calls = [
                    edits(asked.format(value), values.count(value), seed=task.seed + 10 * i, bank="off")
                    for i, value in enumerate(ones)
                ]  # fmt: skip
                some = [calls[i % len(ones)][i // len(ones)] for i in range(N)]
                seconds = sum(call.seconds for call in calls)
            else:
                noise: dict[str, Any] = {"seed": task.seed + 1000, "bank": "memory", "repulsion": settings}
                runs = runs or [edits(text, 1, **noise) for text in (*map(asked.format, ones), task.request.text)]
                memories = [run[0].trace.memory for run in runs]
                strategy = ByTokens([memories[i % len(ones)] for i in range(N)], memories[-1], way)
                whole = edits(task.request.text, N, strategy=strategy, repulsion=settings, bank="off")
                some, seconds = list(whole), sum(run.seconds for run in (*runs, whole))
            yield row(way, axis, values, some, seconds)


def sheet(file: Path) -> None:
    from skimage import data

    pipeline = load_pipeline("sd3-nano", progress=False)
    rows = [diverse_edit(data.astronaut(), "add a frame", 6, pipeline=pipeline, seed=4, **PLAIN).row("add a frame")]
    for text, values in (
        ("add a {} frame", ["red", "blue", "green", "yellow", "violet", "cyan"]),
        ("add a {} sticker", ["cat", "frog", "whale"]),
    ):
        edits = diverse_edit(data.astronaut(), text, 6, pipeline=pipeline, seed=4, vary=values, **PLAIN)
        rows.append(edits.row(f"{text}, vary={values}"))
    contact_sheet(rows).quantize(128).save(file, optimize=True)


def told(rows: Sequence[dict[str, Any]]) -> None:
    """Prints a table for each attribute, and one of all."""
    print(f"| | way | {' | '.join(KINDS)} |\n|---|---|{'---|' * len(KINDS)}")
    for axis in (*dict.fromkeys(row["axis"] for row in rows), None):
        for way in dict.fromkeys(row["way"] for row in rows):
            mine = [row for row in rows if row["way"] == way and axis in (None, row["axis"])]
            print(
                f"| {axis or 'all'} | {way} | {' | '.join(interval([row[kind] for row in mine]) for kind in KINDS)} |"
            )


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--way", action="append", choices=WAYS)
    options.add_argument("--first", type=int, default=0)
    options.add_argument("--sheet", type=Path)
    asked = options.parse_args()
    if asked.sheet is not None:
        sheet(asked.sheet)
        return
    ways = asked.way or WAYS

    def key(task: Task) -> str | None:
        return None if task.request.pins else f"{task.photo} {task.request.edit.name} {' '.join(ways)}"

    for model, done in measured(asked, "values-", key, lambda task, pipe: list(made(task, pipe, ways)), asked.first):
        print(f"\n{model}, {len(done)} sets")
        told([row for rows in done.values() for row in rows])


if __name__ == "__main__":
    main()
