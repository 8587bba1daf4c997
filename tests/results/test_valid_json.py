"""Whatever we write as JSON is JSON: no NaN, no infinity."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from plugging import Even, edit

from ctxrep_edit import BrokenPlugin, Case, Verdict, encode_json

ROOT = Path(__file__).parents[2]


class Broken(Even):
    name = "broken"

    def verdicts(self, case: Case) -> list[Verdict]:
        raise LookupError("nothing found")


class Odd(Even):
    name = "odd"

    def verdicts(self, case: Case) -> list[Verdict]:
        return [Verdict(True, "ratio", float("nan"), float("inf"), "0 by 0")] * len(case.edits)


class Choosy(Even):
    name = "choosy"

    def verdicts(self, case: Case) -> list[Verdict]:
        return [Verdict.not_asked("taste", "there is nothing to taste")] * len(case.edits)


def strictly(text: str) -> Any:
    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_numbers_that_json_has_no_form_for_become_null() -> None:
    value = {"a": [1.5, float("nan"), (float("-inf"), 2)], "b": {"c": np.float64("nan")}, "d": "NaN", "e": True}
    wanted = {"a": [1.5, None, [None, 2]], "b": {"c": None}, "d": "NaN", "e": True}
    assert strictly(encode_json(value)) == strictly(encode_json(value, None)) == wanted
    with pytest.raises(TypeError):
        encode_json({"picture": object()})


def test_what_a_check_did_not_measure_is_null_in_every_file(
    pipeline: Any, picture: Image.Image, tmp_path: Path
) -> None:
    with pytest.warns(BrokenPlugin):
        edits = edit(picture, pipeline=pipeline, preserve=[Choosy(), Broken(), Odd(), Even()])
    edits.save(tmp_path, ["png", "json", "report"])
    stated = strictly((tmp_path / "edits.json").read_text("utf-8"))
    with Image.open(tmp_path / "edit-1.png") as png:
        assert strictly(png.text["ctxrep-edit"])["verdicts"] == stated["edits"][0]["verdicts"]
    said = stated["edits"][0]["verdicts"]
    assert {name: (one["kept"], one["value"], one["bound"]) for name, one in said.items()} == {
        "choosy": (None, None, None), "broken": (False, None, None), "odd": (True, None, None), "even": (True, 0, 0),
    }  # fmt: skip
    assert said["choosy"]["reason"] == "not asked: there is nothing to taste"
    assert said["broken"]["reason"] == "not judged: LookupError: nothing found"
    page = (tmp_path / "report.html").read_text("utf-8")
    assert page.count('<td class="not-asked">not asked</td>') == 2
    assert "nan" not in re.sub('data:[^"]*', "", page)


def test_what_was_not_asked_neither_decides_nor_objects(pipeline: Any, picture: Image.Image) -> None:
    first, second = edit(picture, pipeline=pipeline, preserve=[Choosy(), Even()])
    assert (first.faithful, second.faithful) == (True, False)
    assert first.verdict is first.verdicts["even"]
    alone = edit(picture, pipeline=pipeline, preserve=[Choosy()])
    assert [entry.faithful for entry in alone] == [True, True]
    assert [entry.verdict for entry in alone] == [None, None]
    assert "kept the rest" not in repr(alone)


def test_json_is_written_in_one_place() -> None:
    writers = [
        file.relative_to(ROOT).as_posix()
        for folder in ("ctxrep_edit", "plugins", "adapters")
        for file in (ROOT / folder).rglob("*.py")
        if re.search(r"json\.dumps?\(", file.read_text("utf-8"))
    ]
    assert sorted(writers) == [
        "adapters/ctxrep_adapters/bria_fibo.py",  # a prompt, in its own letters
        "ctxrep_edit/results/valid_json.py",
        "ctxrep_edit/testing/parts.py",
    ]  # that reads it back
