"""Measurements on crops, one task after the other on each embedded model, that go on where they were stopped."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ctxrep_plugins.bench.tasks import Task, tasks
from ctxrep_plugins.nano.world.photos import held_out, read_folder

from ctxrep_edit import load_pipeline

Rows = list[Any]


def parser(description: str | None) -> argparse.ArgumentParser:
    """With the options that `measured` looks at."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--model", action="append")
    made.add_argument("--photos", type=int, default=2)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--folder", type=Path)
    made.add_argument("--trials", type=Path)
    return made


def measured(
    asked: argparse.Namespace, kind: str, key: Callable[[Task], str | None], make: Callable[[Task, Any], Rows],
    first: int = 0,
) -> Iterator[tuple[str, dict[str, Rows]]]:  # fmt: skip
    """Each model, and what there is of each task, by its key. kind: in the names of the files of --trials. key: None of
    a task that is left out."""
    crops = read_folder(asked.folder) if asked.folder else held_out()
    for model in asked.model or ("kontext-nano", "sd3-nano"):
        pipeline, done = load_pipeline(model, progress=False), dict[str, Rows]()
        file = asked.trials and asked.trials.with_name(f"{asked.trials.stem}-{kind}{model}.jsonl")
        if file and file.exists():
            done = dict(json.loads(line) for line in file.read_text().splitlines())
        for task in tasks(crops, asked.photos, asked.seed, first):
            name = key(task)
            if name is None or name in done:
                continue
            done[name] = make(task, pipeline)
            if file:
                with file.open("a") as stream:
                    stream.write(json.dumps([name, done[name]]) + "\n")
        yield model, done
