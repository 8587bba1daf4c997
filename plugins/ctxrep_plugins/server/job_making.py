"""How a job is made: with the worker's pipeline, its edits laid down one by one, then its set."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ctxrep_plugins.server import answers, refusals
from ctxrep_plugins.server.making import check_heard, spread
from ctxrep_plugins.server.maps import Maps, heat_file, region_file, region_png
from ctxrep_plugins.server.refusals import Cancelled, Refused
from ctxrep_plugins.server.shelf import Shelf, job_of, set_id
from ctxrep_plugins.server.unlike import edits_of
from ctxrep_plugins.server.warned import heard
from ctxrep_plugins.server.worker import Worker

from ctxrep_edit import InputError

if TYPE_CHECKING:
    from ctxrep_edit import Edit, EditSet

LARGEST = 2**30
"""Bytes: a bank that takes no more is saved, so that there can be more of the set."""


class Maker:
    """Makes jobs, for `Jobs`. model: what recipes call the model; told: what a client is told of an error; made: is
    told of each set.
    """

    def __init__(
        self, worker: Worker, model: str, told: Callable[[Exception, str], Refused], made: Callable[[EditSet], None]
    ) -> None:
        self.worker, self.model, self._told, self._counted = worker, model, told, made

    def make(self, job: str, shelf: Shelf, cancelled: Callable[[], bool]) -> dict[str, Any]:
        """What is to be known of the job when it has ended. Waits for the worker."""
        ended, found = threading.Event(), dict[str, Any]()

        def work(pipeline: Any) -> None:
            try:
                found.update(self._made(job, shelf, pipeline, cancelled))
            except Exception as error:
                found.update(error=refusals.body(self._told(error, job))["error"])
            finally:
                ended.set()

        self.worker.submit(work, always=True)
        ended.wait()
        return found

    def _made(self, job: str, shelf: Shelf, pipeline: Any, cancelled: Callable[[], bool]) -> dict[str, Any]:
        def on_step(step: int, steps: int) -> None:
            if cancelled():
                raise Cancelled("This job was cancelled.")

        request, warnings = shelf.request(job), list[str]()
        assert request is not None  # it was accepted
        shelf.begin(job)
        on_step(0, 1)
        with heard(warnings):
            if request.get("more_of"):
                edits = self._more(request, shelf, pipeline, on_step)
            else:
                edits = self._edits(job, request, shelf, pipeline, on_step)
            how_far = spread(edits)
        before = shelf.set_of(request["more_of"]) if request.get("more_of") else None
        edits.save(shelf.set_of(job), ["png", "sheet", "json", Maps(before)], bank=_continues(edits))
        data = [{**answers.about(edit), **urls(job, edit, shelf)} for edit in edits]
        about = {"id": set_id(job), **answers.about_set(edits, how_far, warnings, self.model)}
        return {"data": data, "set": about, "error": None}

    def _edits(
        self, job: str, request: Mapping[str, Any], shelf: Shelf, pipeline: Any, on_step: Callable[[int, int], None]
    ) -> EditSet:
        from ctxrep_edit import encode_png, stream_edits

        image = shelf.picture(job, "image")
        assert image is not None  # it was accepted
        check_heard(pipeline, request["options"])
        unlike = [(str(shelf.set_of(job_of(one["set"]))), one["index"]) for one in request.get("unlike", ())]
        made = stream_edits(
            image, request["prompt"], request["n"], mask=shelf.picture(job, "mask"), pipeline=pipeline, progress=False,
            on_step=on_step, references=shelf.references(job), unlike=edits_of(unlike),
            **{"seed": request["seed"], **request["options"]},
        )  # fmt: skip
        for edit in made:
            region = {} if edit.region is None else {region_file(edit): region_png(edit.region)}
            said = {**answers.about(edit), **named(job, [edit.file, *region])}
            shelf.tell(job, said, {edit.file: encode_png(edit.image), **region})
        return self._named(made.edits)

    def _more(
        self, request: Mapping[str, Any], shelf: Shelf, pipeline: Any, on_step: Callable[[int, int], None]
    ) -> EditSet:
        from ctxrep_edit import EditSet

        try:
            before = EditSet.load(shelf.set_of(request["more_of"]))
        except InputError:  # which names a folder of the server
            message = f"The set of {request['more_of']} is there no longer: ask for a new one."
            raise Refused(message, status=410, code="set_removed") from None
        numbers = request["unlike"]
        unlike = None if numbers is None else [edit for edit in before if edit.index in numbers]
        fresh = before.more(request["n"], unlike=unlike, pipeline=pipeline, progress=False, on_step=on_step)
        return before + self._named(fresh)

    def _named(self, edits: EditSet) -> EditSet:
        """A set that is made."""
        self._counted(edits)
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
