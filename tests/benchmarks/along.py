"""What came of repulsion along an attribute, or kept out of one: python tests/benchmarks/along.py --photos 2

The nano world knows of two edits with two attributes each: kind and place of a sticker, colour and width of a frame.
For each value of an attribute one candidate is made by an instruction that names it, all from one noise. At each place
of the window the differences of their tokens from their mean span the attribute's plane. Sets of six by the open
instruction are then made so:

plain, default: as ever. no pool: default, without oversampling.
vary: of twelve, each move of the ascent is laid into the plane, as long as it was, and those six go on whose tokens
differ most in the plane at the end of the window.
hold: of six, each move is kept out of the plane.
hold, pulled: and 0.3 of what sets a candidate apart from the first in the plane is taken away in each block.

Printed is the entropy of the right answers in a set, by attribute, in nats, and the share right, with 95 % intervals
over sets. --model NAME, repeatable; --first CROP and --folder FOLDER for other photographs; --scope and --strength
of all but plain and default; --trials FILE keeps what is done, and goes on from it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from ctxrep_plugins.bench.tasks import Task
from ctxrep_plugins.nano.world.judge import Judge
from resumed import measured, parser
from steering import PLAIN, interval
from torch import Tensor
from torch.nn.functional import pad

from ctxrep_edit import Repulsion, Run, Strategy, diverse_edit, repelled, to_tensor
from ctxrep_edit.repulsion.ascent import repel_parts
from ctxrep_edit.repulsion.bank import Memory, Place
from ctxrep_edit.repulsion.tokens import Part
from ctxrep_edit.sampling.choice import choose

N, POOL, PULL = 6, 12, 0.3
USUAL = ("plain", "default", "no pool")
WAYS = ("vary", "hold", "hold, pulled")


class Along(Strategy):
    """The ascent in the plane of an attribute, or beside it. said: what candidates had for whom its value was said."""

    name, summary, repels = "along", "repulsion along an attribute", True

    def __init__(self, said: Sequence[Memory], way: str) -> None:
        self.said, self.way = said, way
        self.coordinates: dict[Place, Tensor] = {}

    def sample(self, run: Run) -> Tensor:
        own, blocks = run.settings, 1 + max(place[2] for place in self.said[0])
        still = int(own.anchor)

        def steer(place: Place, parts: Sequence[Part]) -> list[Part]:
            share = own.share(place[0], attachment.clock.noise(place[0]))
            moved, _, _ = repel_parts(
                parts, strength=own.strength * share / blocks, eta=None, iterations=own.iterations,
                objective=own.objective, keep_norm=own.keep_norm, fixed=still,
            )  # fmt: skip
            tokens = flat(parts)  # (n, numbers)
            step = flat([replace(part, tokens=some) for part, some in zip(parts, moved, strict=True)]) - tokens
            plane, middle = self.plane(place, parts)  # (values - 1, numbers), (numbers,)
            inside = step @ plane.T @ plane
            if self.way == "vary":
                step = inside * (step.norm(dim=1) / inside.norm(dim=1).clamp_min(1e-12))[:, None]
            else:
                step = step - inside
            if self.way == "hold, pulled":
                step = step - PULL * ((tokens - tokens[:1]) @ plane.T @ plane)
            self.coordinates[place] = (tokens + step - middle) @ plane.T  # (n, values - 1)
            return put(parts, tokens + step)

        settings = replace(own, strength=0.0, eta=None, anchor=False)  # the ascent is done above
        with repelled(
            run.pipeline, settings, particles=run.n, instruction=run.instruction, adapter=run.adapter, steer=steer
        ) as attachment:
            return run.call()

    def plane(self, place: Place, parts: Sequence[Part]) -> tuple[Tensor, Tensor]:
        """An orthonormal basis of the differences, and the mean. Where the instructions differ in their number of
        words, those of the image tokens alone."""
        length, rows = sum(part.length for part in parts), []
        for memory in self.said:
            had = memory[place].double()  # (selected, width)
            rows.append(had if len(had) == length else pad(had[-parts[-1].length :], (0, 0, parts[0].length, 0)))
        points = torch.stack(rows).flatten(1)  # (values, numbers)
        middle = points.mean(0)
        return torch.linalg.svd(points - middle, full_matrices=False)[2][: len(points) - 1], middle

    def farthest(self) -> list[int]:
        """Those whose coordinates at the end of the window differ most, the first among them."""
        last = max(place[0] for place in self.coordinates)
        ends = [some / some.norm(dim=1).mean() for place, some in self.coordinates.items() if place[0] == last]
        points = torch.cat(ends, 1).float()
        return choose(points, points[:0], [0], N)


def flat(parts: Sequence[Part]) -> Tensor:
    """The tokens that take part: (n, numbers), double."""
    return torch.cat([part.selected.flatten(1) for part in parts], 1).double()


def put(parts: Sequence[Part], numbers: Tensor) -> list[Part]:
    sizes = [part.selected[0].numel() for part in parts]
    pieces = [some.view_as(part.selected) for part, some in zip(parts, numbers.split(sizes, 1), strict=True)]
    return [replace(part, tokens=part.put(some.to(part.tokens))) for part, some in zip(parts, pieces, strict=True)]


def made(task: Task, pipeline: Any, changes: dict[str, Any]) -> Iterator[dict[str, Any]]:
    edit, judge = task.request.edit, Judge(task.request.edit, task.picture, pipeline)

    def edits(text: str, n: int, **options: Any) -> Any:
        return diverse_edit(task.picture, text, n, pipeline=pipeline, **{"bank": "off", **PLAIN, **options})

    def row(way: str, axis: str | None, some: Sequence[Any]) -> dict[str, Any]:
        found = [judge(to_tensor(one.image)[0]) for one in some]
        right = [ruling.answer for ruling in found if ruling.right]
        each = {name: entropy([answer[i] for answer in right]) for i, name in enumerate(edit.attributes)}
        return {"way": way, "axis": axis, "edit": edit.name, "right": len(right) / N, "entropy": each}

    default = edits(task.request.text, N, seed=task.seed)
    yield row("plain", None, edits(task.request.text, N, seed=task.seed, strength=0))
    yield row("default", None, default)
    yield row("no pool", None, edits(task.request.text, N, seed=task.seed, oversample=1))
    settings = Repulsion(**{**default.recipe["repulsion"], "oversample": 1, **changes})
    for axis, values in edit.attributes.items():
        wordings = [edit.phrases[(axis,)][0].format(**{axis: value}) for value in values]
        runs = [edits(text, 1, seed=task.seed + 1000, bank="memory", repulsion=settings)[0] for text in wordings]
        for way in WAYS:
            along = Along([one.trace.memory for one in runs], way)
            n = POOL if way == "vary" else N
            some = edits(task.request.text, n, seed=task.seed, strategy=along, repulsion=settings)
            yield row(way, axis, [some[i] for i in along.farthest()] if n > N else list(some))


def entropy(values: Sequence[str]) -> float:
    shares = [count / len(values) for count in Counter(values).values()]
    return -sum(share * math.log(share) for share in shares)


def told(rows: Sequence[dict[str, Any]]) -> None:
    """Prints a table of entropies, and one of shares right."""
    heads = [f"{way} {which}" for way in WAYS for which in ("it", "the other")]
    print(f"| | {' | '.join((*USUAL, *heads))} |\n|---|{'---|' * (len(USUAL) + len(heads))}")
    for kind in dict.fromkeys(row["edit"] for row in rows):
        mine = [row for row in rows if row["edit"] == kind]
        for axis in mine[0]["entropy"]:
            cells = [interval([row["entropy"][axis] for row in mine if row["way"] == way]) for way in USUAL]
            for way in WAYS:
                here = [row for row in mine if row["way"] == way]
                for same in (True, False):
                    cells.append(interval([row["entropy"][axis] for row in here if (row["axis"] == axis) == same]))
            print(f"| {kind}: {axis} | {' | '.join(cells)} |")
    for way in (*USUAL, *WAYS):
        print(f"{way}: right {interval([row['right'] for row in rows if row['way'] == way])}")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--first", type=int, default=0)
    options.add_argument("--scope")
    options.add_argument("--strength", type=float)
    asked = options.parse_args()
    changes = {name: getattr(asked, name) for name in ("scope", "strength") if getattr(asked, name) is not None}

    def key(task: Task) -> str | None:
        left_out = task.request.pins or len(task.request.edit.attributes) < 2
        return None if left_out else f"{task.photo} {task.request.edit.name}"

    for model, done in measured(asked, "", key, lambda task, pipe: list(made(task, pipe, changes)), asked.first):
        print(f"\n{model}, {len(done)} sets")
        told([row for rows in done.values() for row in rows])


if __name__ == "__main__":
    main()
