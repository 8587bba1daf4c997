"""How a job is made: with the worker's pipeline, its edits laid down one by one, then its set."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ctxrep_plugins.server import answers, refusals
from ctxrep_plugins.server.making import check_heard, spread
from ctxrep_plugins.server.refusals import Cancelled, Refused
from ctxrep_plugins.server.shelf import Shelf
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
        edits.save(shelf.set_of(job), bank=_continues(edits))
        data = [{**answers.about(edit), "url": url(job, edit)} for edit in edits]
        return {"data": data, "set": answers.about_set(edits, how_far, warnings, self.model), "error": None}

    def _edits(
        self, job: str, request: Mapping[str, Any], shelf: Shelf, pipeline: Any, on_step: Callable[[int, int], None]
    ) -> EditSet:
        from ctxrep_edit import encode_png, stream_edits

        image = shelf.picture(job, "image")
        assert image is not None  # it was accepted
        check_heard(pipeline, request["options"])
        made = stream_edits(
            image, request["prompt"], request["n"], mask=shelf.picture(job, "mask"), pipeline=pipeline, progress=False,
            on_step=on_step, **{"seed": request["seed"], **request["options"]},
        )  # fmt: skip
        for edit in made:
            shelf.tell(job, {**answers.about(edit), "url": url(job, edit)}, edit.file, encode_png(edit.image))
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


def url(job: str, edit: Edit) -> str:
    return f"/v1/jobs/{job}/files/{edit.file}"


def _continues(edits: EditSet) -> bool:
    """Whether there can be more of a set, and what is needed for that is small enough to be kept."""
    sizes = [edit.trace.nbytes for edit in edits if edit.trace]
    asked = edits.asked
    return asked is not None and (not asked.repels or len(sizes) == len(edits)) and sum(sizes) <= LARGEST
