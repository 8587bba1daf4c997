"""How a job is made: by a worker, which lays down its edits one by one, then its set."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctxrep_plugins.server import answers, refusals
from ctxrep_plugins.server.leaning import edited, loaded
from ctxrep_plugins.server.making import counted
from ctxrep_plugins.server.maps import Maps, heat_file, region_file, region_png
from ctxrep_plugins.server.named import LEANS
from ctxrep_plugins.server.refusals import Refused
from ctxrep_plugins.server.shelf import Shelf, job_of, set_id
from ctxrep_plugins.server.turns import OnStep, Task, Tell, nobody
from ctxrep_plugins.server.warned import heard
from ctxrep_plugins.server.workers import Workers
from ctxrep_plugins.shared import how_far
from filelock import FileLock

if TYPE_CHECKING:
    from ctxrep_edit import Edit, EditSet

LARGEST = 2**30
"""Bytes: a bank that takes no more is saved, so that there can be more of the set."""
LINGERS = 60
"""Seconds within which a worker has ended after its server."""


class Maker:
    """Has jobs made, for `Jobs`. model: what recipes call the model; told: what a client is told of an error; made: is
    told how many edits there are, by verdict.
    """

    def __init__(
        self, workers: Workers, model: str, told: Callable[[Exception, str], Refused],
        made: Callable[[Mapping[str, int]], None],
    ) -> None:  # fmt: skip
        self.workers, self.model, self._told, self._counted = workers, model, told, made

    def make(self, job: str, owner: str | None, place: Path, cancelled: Callable[[], bool]) -> dict[str, Any]:
        """What is to be known of the job when it has ended. Waits for a worker."""
        work = functools.partial(make_job, job, place, self.model)
        task = Task(work, nobody, cancelled, owner, again=True)
        self.workers.submit(task, always=True)
        try:
            found, verdicts = task.done.result()
        except Exception as error:
            return {"error": refusals.body(self._told(error, job))["error"]}
        self._counted(verdicts)
        return dict(found)


def make_job(
    job: str, place: Path, model: str, pipeline: Any, tell: Tell, on_step: OnStep
) -> tuple[Mapping[str, Any], Mapping[str, int]]:
    """Makes a job in the worker's process: what is to be known of it, and how many edits there are by verdict."""
    shelf = Shelf(place)
    with FileLock(place / job / "lock", timeout=LINGERS):  # of a worker whose server was killed
        return _Job(job, shelf, model, pipeline, on_step).made()


@dataclass
class _Job:
    """One job under way."""

    job: str
    shelf: Shelf
    model: str
    pipeline: Any
    on_step: OnStep
    verdicts: Counter[str] = field(default_factory=Counter)

    def made(self) -> tuple[Mapping[str, Any], Mapping[str, int]]:
        request, warnings = self.shelf.request(self.job), list[str]()
        assert request is not None  # it was accepted
        self.shelf.begin(self.job)
        with heard(warnings):
            edits = self._more(request) if request.get("more_of") else self._edits(request)
            spread = how_far(edits)
        before = self.shelf.set_of(request["more_of"]) if request.get("more_of") else None
        forms = ["png", "sheet", "json", Maps(before)]
        edits.save(self.shelf.set_of(self.job), forms, bank=_continues(edits))
        data = [{**answers.about(edit), **urls(self.job, edit, self.shelf)} for edit in edits]
        about = {"id": set_id(self.job), **answers.about_set(edits, spread, warnings, self.model)}
        return {"data": data, "set": about, "error": None}, self.verdicts

    def _edits(self, request: Mapping[str, Any]) -> EditSet:
        image = self.shelf.picture(self.job, "image")
        assert image is not None  # it was accepted
        places = {
            name: [(str(self.shelf.set_of(job_of(one["set"]))), one["index"]) for one in request.get(name, ())]
            for name in LEANS
        }
        edits = edited(
            image, request["prompt"], request["n"], self._tell, places=places, walk=request.get("walk"),
            pipeline=self.pipeline, on_step=self.on_step, mask=self.shelf.picture(self.job, "mask"),
            references=self.shelf.references(self.job), **{"seed": request["seed"], **request["options"]},
        )  # fmt: skip
        return self._named(edits)

    def _more(self, request: Mapping[str, Any]) -> EditSet:
        before = loaded(str(self.shelf.set_of(request["more_of"])))
        numbers = request["unlike"]
        first = 1 + max((edit.index for edit in (*before, *before.dropped)), default=-1)  # as `+` numbers them
        unlike = None if numbers is None else [edit for edit in before if edit.index in numbers]
        fresh = before.more(
            request["n"], unlike=unlike, pipeline=self.pipeline, progress=False, on_step=self.on_step,
            on_edit=lambda edit: self._tell(replace(edit, index=first + edit.index)),
        )  # fmt: skip
        return before + self._named(fresh)

    def _tell(self, edit: Edit) -> None:
        """An edit is finished."""
        from ctxrep_edit import encode_png

        region = {} if edit.region is None else {region_file(edit): region_png(edit.region)}
        about = {**answers.about(edit), **named(self.job, [edit.file, *region])}
        self.shelf.tell(self.job, about, {edit.file: encode_png(edit.image), **region})

    def _named(self, edits: EditSet) -> EditSet:
        """A set that is made."""
        self.verdicts.update(counted((*edits, *edits.dropped)))
        return replace(edits, recipe={**edits.recipe, "model": self.model})


def urls(job: str, edit: Edit, shelf: Shelf) -> dict[str, str | None]:
    """Where what there is of an edit can be fetched; None: there is none."""
    names = (edit.file, region_file(edit), heat_file(edit))
    return named(job, [name for name in names if shelf.file(job, name)])


def named(job: str, files: Sequence[str]) -> dict[str, str | None]:
    """URLs of files of one edit, by what they are."""
    found: dict[str, str | None] = {"url": None, "region": None, "heat": None}
    for name in files:
        kind = name.partition("-")[0]
        found["url" if kind == "edit" else kind] = f"/v1/sets/{set_id(job)}/files/{name}"
    return found


def _continues(edits: EditSet) -> bool:
    """Whether there can be more of a set, and what is needed for that is small enough to be kept."""
    sizes = [edit.trace.nbytes for edit in edits if edit.trace]
    asked = edits.asked
    return asked is not None and (not asked.repels or len(sizes) == len(edits)) and sum(sizes) <= LARGEST
