"""What happens when a visitor asks for something: the server is asked, and what it tells is shown as it comes."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ctxrep_plugins.page.api import Api
from ctxrep_plugins.page.pictures import changed, shown
from ctxrep_plugins.page.visits import News, Visit

from ctxrep_edit import CtxrepError

MORE = 4


def edit(api: Api, visit: Visit, picture: bytes, mask: bytes | None, fields: Mapping[str, Any]) -> Iterator[News]:
    """New edits, in place of those on show."""

    def begin() -> dict[str, Any]:
        job = api.ask(picture, mask, fields)
        visit.begun += 1
        visit.edits, visit.shown, visit.made = {}, None, None
        shown(picture).save(visit.source)
        return job

    yield from _followed(api, visit, begin, "They are being made ...")


def more(api: Api, visit: Visit) -> Iterator[News]:
    """Four more, unlike those that are ticked."""

    def begin() -> dict[str, Any]:
        assert visit.made is not None  # the button is there with the edits
        return api.more(visit.made, MORE, visit.ticked)

    yield from _followed(api, visit, begin, "Four more are being made ...")


def cancel(api: Api, visit: Visit) -> None:
    if visit.job is not None:
        api.cancel(visit.job)


def _followed(api: Api, visit: Visit, begin: Callable[[], dict[str, Any]], first: str) -> Iterator[News]:
    try:
        job = begin()
    except CtxrepError as error:
        yield News(str(error), failed=True)
        return
    before = dict(visit.edits)
    visit.job, visit.n, visit.ticked, visit.asked = job["id"], len(before) + job["n"], (), visit.asked + 1
    try:
        yield News(first, busy=True)
        for name, data in api.news(job["id"]):
            if name == "job.edit":
                if len(visit.edits) == len(before):  # the first one
                    visit.shown = data["index"]
                _show(api, visit, data)
                yield News(f"{len(visit.edits) - len(before)} of {job['n']} are there ...", busy=True)
            elif name == "job.completed":
                yield _completed(api, visit, data)
            else:
                _go_back(visit, before)
                failed = name == "job.failed"
                yield News(data["error"]["message"] if failed else "Cancelled.", failed=failed)
    except CtxrepError as error:
        _go_back(visit, before)
        yield News(str(error), failed=True)
    except GeneratorExit:  # nobody listens any longer
        with suppress(CtxrepError):
            cancel(api, visit)
        raise
    finally:
        visit.job = None


def _go_back(visit: Visit, before: dict[int, dict[str, Any]]) -> None:
    """To the set that there was, which alone there can be more of. Of a first set, what is finished stays."""
    if visit.made is not None:
        visit.edits = before
        visit.shown = visit.shown if visit.shown in before else min(before)


def _show(api: Api, visit: Visit, told: Mapping[str, Any]) -> None:
    place = visit.picture(told)
    if not place.exists():
        place.write_bytes(api.file(told["url"]))
    visit.edits[told["index"]] = dict(told)


def _completed(api: Api, visit: Visit, about: Mapping[str, Any]) -> News:
    """The set as it is in the end: with what was made again or left out."""
    visit.edits = {}
    for told in about["data"]:
        _show(api, visit, told)
    visit.made = about["id"]
    if visit.shown not in visit.edits:
        visit.shown = min(visit.edits, default=None)
    return News(_summary(about))


def _summary(about: Mapping[str, Any]) -> str:
    """What there is, and what the server warned of."""
    made, dropped = about["set"], len(about["set"]["dropped"])
    different = f", {made['distinct']} different" if made["distinct"] else ""
    said = [f"{_counted(len(about['data']))}{different}."]
    if dropped:
        said.append(f"{_counted(dropped)} failed a check and {'was' if dropped == 1 else 'were'} left out.")
    return " ".join([*said, *made["warnings"]])


def _counted(number: int) -> str:
    return "1 edit" if number == 1 else f"{number} edits"


def changes(api: Api, visit: Visit, edit: Mapping[str, Any]) -> Path:
    """A picture of where an edit differs from its source, by the server's own measure where it has one."""
    heat, region = edit.get("heat"), edit.get("region")
    place = visit.picture(edit)
    made = place.with_name(f"{'heat' if heat else 'changed'}-{place.name}")
    if not made.exists():
        maps = [None if url is None else api.file(url) for url in (heat, region)]
        changed(visit.source, place, *maps).save(made)
    return made


def packed(api: Api, visit: Visit) -> bytes:
    """All edits on show as a zip file, with the source, the sheet and edits.json, which is their recipe."""
    stream = io.BytesIO()
    url = next(iter(visit.edits.values()))["url"]
    with zipfile.ZipFile(stream, "w") as files:  # of PNG, which is packed already
        for index, told in visit.edits.items():
            files.write(visit.picture(told), f"edit-{index + 1}.png")
        for name in ("source.png", "sheet.png", "edits.json"):
            files.writestr(name, api.file(url, name))
    return stream.getvalue()
