"""Checks are asked safely: two of one name are refused, verdicts are plain values, and pictures stay as they were."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from plugging import Even

from ctxrep_edit import BrokenPlugin, Case, Check, InputError, PluginError, Verdict, encode_json
from ctxrep_edit.faithfulness.judgement import checks_named, judge


class Own(Check):
    """Says what a function says of the case."""

    summary = "as told"

    def __init__(self, says: Callable[[Case], Any] = lambda case: None, name: str = "own") -> None:
        self.says, self.name = says, name  # type: ignore[misc]

    def verdicts(self, case: Case) -> Any:
        said = self.says(case)
        return [said if isinstance(said, Verdict) else GOOD] * len(case.edits)


GOOD = Verdict(True, "taste", 0.5, 1.0, "fine")


def case(**changes: Any) -> Case:
    torch.manual_seed(0)
    source, edits = torch.rand(1, 3, 48, 64), torch.rand(2, 3, 48, 64)
    mask = torch.ones(48, 64, dtype=torch.bool)
    return dataclasses.replace(Case(source, edits, mask, "x", False, lambda: source), **changes)


def test_two_checks_of_one_name_are_refused() -> None:
    one, other = Own(), Own()
    twice: list[list[str | Check]] = [[one, other], ["change", Own(name="change")], [Own(name="change"), "change"]]
    for preserve in twice:
        with pytest.raises(InputError, match=r"^preserve has two checks called '\w+', whose .* another `name`, or"):
            checks_named(preserve)
    assert checks_named([one, Own(name="another"), one])[0] is one
    assert [check.name for check in checks_named([one, "change", one, "change"])] == ["own", "change"]
    names = [check.name for check in checks_named("auto", ("change", "following"))]
    assert names == ["preservation", "change", "alignment", "following"]


NUMBERS: dict[str, tuple[Any, Any, Any]] = {
    "numpy": (np.bool_(False), np.float32(0.5), np.int64(1)),
    "arrays": (np.array(False), np.array(0.5), np.array(1)),
    "torch": (torch.tensor(False), torch.tensor(0.5), torch.tensor(1)),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers_of_numpy_and_torch_become_pythons(kind: str) -> None:
    kept, value, bound = NUMBERS[kind]
    details = {"a": value, "b": [bound, {"c": (kept, None, "d")}]}
    verdict = judge(case(), [Own(lambda _: Verdict(kept, "m", value, bound, "r", details))])[1]["own"]
    assert (verdict.kept, verdict.value, verdict.bound) == (False, 0.5, 1)
    assert [type(one) for one in (verdict.kept, verdict.value, verdict.bound)] == [bool, float, int]
    assert verdict.details == {"a": 0.5, "b": [1, {"c": [False, None, "d"]}]}
    assert encode_json(verdict.to_dict())


@pytest.mark.parametrize(
    ("wrong", "cause"),
    [
        ({"kept": 1}, "kept is 1, but must be True, False or None"),
        ({"measure": None}, "measure is None, but must be a string"),
        ({"value": "0.5"}, "value is '0.5', but must be a number or None"),
        ({"value": 1j}, "value is 1j, but must be a number or None"),
        ({"bound": np.ones(1)}, "bound is array([1.]), but must be a number or None"),
        ({"reason": None}, "reason is None, but must be a string"),
        ({"fault": 3}, "fault is 3, but must be a string"),
        ({"details": None}, "details is None, but must be a mapping"),
    ],
)
def test_a_verdict_of_wrong_types_is_none(wrong: dict[str, Any], cause: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [Own(lambda _: dataclasses.replace(GOOD, **wrong)), Even()]
    with pytest.warns(BrokenPlugin) as caught:
        said = judge(case(), asked)[0]
    message = f"The check own failed: it gave a Verdict whose {cause}. Mend it, or leave it out of preserve."
    assert [str(warning.message) for warning in caught] == [message]
    assert (said["own"].kept, said["own"].reason) == (False, f"not judged: it gave a Verdict whose {cause}")
    assert said["even"].kept
    monkeypatch.setenv("CTXREP_EDIT_STRICT", "1")
    with pytest.raises(PluginError) as strict:
        judge(case(), asked)
    assert str(strict.value) == message


def test_details_that_json_has_no_form_for() -> None:
    told = dataclasses.replace(GOOD, details={"heat": [torch.ones(2)]})
    with pytest.warns(BrokenPlugin, match="a Verdict with a Tensor in its details, which JSON has no form for"):
        assert not judge(case(), [Own(lambda _: told)])[0]["own"].kept


def reassigned(given: Case) -> None:
    given.edits = given.edits * 2


def written(given: Case) -> None:
    given.edits.numpy()[1] = 0


def seen_first(given: Case) -> None:
    given.source.zero_()
    assert not given.evidence.source.any()


def failing(given: Case) -> None:
    given.source.zero_()
    raise ZeroDivisionError("division by zero")


def clipped(given: Case) -> None:
    given.source.clamp_(0, 0.5)
    given.edits.clamp_(0, 0.5)


CHANGES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "edits": (lambda given: given.edits.mul_(0.5), "edits"),
    "both": (clipped, "source and edits"),
    "mask": (lambda given: given.mask.logical_not_(), "mask"),
    "shape": (lambda given: given.edits.transpose_(2, 3), "edits"),
    "reassigned": (reassigned, "edits"),
    "through numpy": (written, "edits"),
    "before the evidence": (seen_first, "source"),
    "raises": (failing, ""),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_check_that_changes_the_pictures_costs_itself(kind: str) -> None:
    change, what = CHANGES[kind]
    given = case()
    edits, source, mask = given.edits, given.source, given.mask
    assert mask is not None
    before = [tensor.clone() for tensor in (edits, source, mask)]
    seen: list[Any] = []
    cause = f"it changed the case's {what} in place, and must work on a copy" if what else "ZeroDivisionError: division"
    with pytest.warns(BrokenPlugin, match=f"^The check own failed: {cause}"):
        said = judge(given, [Own(change), Own(lambda shown: seen.append(shown.evidence), "next")])
    assert [(one["own"].kept, one["next"].kept) for one in said] == [(False, True)] * 2
    assert all(torch.equal(now, then) for now, then in zip((edits, source, mask), before, strict=True))
    assert given.edits is edits
    assert torch.equal(seen[0].source, before[1])


def test_pictures_with_nan_are_not_taken_for_changed() -> None:
    edits = torch.full((2, 3, 48, 64), float("nan"))
    assert judge(case(edits=edits), [Own()])[0]["own"].kept
