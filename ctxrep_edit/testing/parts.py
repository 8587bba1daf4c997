"""The conformance kits for checks, embedders and exporters."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ctxrep_edit.faithfulness.case import Case
from ctxrep_edit.plugins.contracts import Check, Embedder, Exporter, Verdict
from ctxrep_edit.repulsion.ascent import vendi_score
from ctxrep_edit.results.editset import EditSet
from ctxrep_edit.testing import fakes
from ctxrep_edit.testing.strategies import has_name_and_summary


class CheckConformance:
    """Holds a check to its contract. Override `check`, and `case` for one that judges other pictures or words."""

    @pytest.fixture
    def check(self) -> Check:
        """The check under test."""
        pytest.fail("Override the fixture `check`: it gives an instance of yours.")

    @pytest.fixture
    def case(self) -> Case:
        """What it judges: three edits, none of them the plain one."""
        return fakes.case()

    def test_it_says_what_it_is(self, check: Check) -> None:
        has_name_and_summary(check)

    def test_one_verdict_per_edit(self, check: Check, case: Case) -> None:
        masked = replace(case, mask=fakes.case(masked=True).mask)
        for given in (case, masked, replace(case, first_is_plain=True), replace(case, edits=case.edits[:1])):
            verdicts = _verdicts(check, given)
            assert len(verdicts) == len(given.edits), f"It gave {len(verdicts)} verdicts of {len(given.edits)} edits."
            for verdict in verdicts:
                assert isinstance(verdict, Verdict), f"It gave {verdict!r} instead of a Verdict."

    def test_verdicts_can_be_read_and_written(self, check: Check, case: Case) -> None:
        for verdict in _verdicts(check, case):
            asked = verdict.kept is not None
            assert isinstance(verdict.kept, bool | None), f"kept is {verdict.kept!r}, but must be True, False or None."
            for name in ("value", "bound"):
                number = getattr(verdict, name)
                assert asked or number is None, f"{name} is {number!r}, but kept None means that it was not asked."
                if not asked:
                    continue
                assert isinstance(number, float | int), f"{name} is {number!r}, but must be a number: use float()."
                assert math.isfinite(number), f"{name} is {number!r}, but must be finite."
            assert verdict.measure, "measure is empty: say what was measured."
            assert verdict.reason, "reason is empty: say why in one sentence."
            try:
                assert json.loads(json.dumps(verdict.to_dict())) == verdict.to_dict()
            except (TypeError, AssertionError):
                pytest.fail(f"A verdict does not survive JSON: {verdict.to_dict()}. Use plain numbers, text and lists.")

    def test_verdicts_are_in_order(self, check: Check, case: Case) -> None:
        """The edits the other way round get the same verdicts the other way round."""
        _same(
            _verdicts(check, case), _verdicts(check, replace(case, edits=case.edits.flip(0)))[::-1], "in another order"
        )

    def test_it_changes_nothing(self, check: Check, case: Case) -> None:
        before = case.source.clone(), case.edits.clone()
        _verdicts(check, case)
        same = torch.equal(case.source, before[0]) and torch.equal(case.edits, before[1])
        assert same, "It changed the pictures that it was given: work on a copy."


class EmbedderConformance:
    """Holds an embedder to its contract. Override `embedder`, and `pictures` for one that needs other pictures."""

    @pytest.fixture
    def embedder(self) -> Embedder:
        """The embedder under test."""
        pytest.fail("Override the fixture `embedder`: it gives an instance of yours.")

    @pytest.fixture
    def pictures(self) -> Tensor:
        """Three different ones: (3, 3, h, w) in [0, 1]."""
        return fakes.pictures()

    def test_it_says_what_it_is(self, embedder: Embedder) -> None:
        has_name_and_summary(embedder)

    def test_one_row_per_picture(self, embedder: Embedder, pictures: Tensor) -> None:
        for given in (pictures, pictures[:1], fakes.pictures(2, 96, 64)):
            rows = embedder.embed(given)
            assert isinstance(rows, Tensor), f"It gave a {type(rows).__name__} instead of a tensor."
            assert rows.ndim == 2, f"It gave {tuple(rows.shape)}, but must give (n, features)."
            assert len(rows) == len(given), f"It gave {len(rows)} rows for {len(given)} pictures."
            assert rows.is_floating_point(), f"It gave {rows.dtype}, but must give floating point."
            assert rows.isfinite().all(), "There are features that are not finite."
            assert rows.norm(dim=1).min() > 0, "There is a row of zeros, which has no direction."
            assert not rows.requires_grad, "Its rows carry gradients: embed under torch.no_grad()."

    def test_equal_pictures_have_equal_rows(self, embedder: Embedder, pictures: Tensor) -> None:
        rows = embedder.embed(pictures[[0, 1, 0, 2]])
        assert torch.allclose(rows[0], rows[2], rtol=1e-4, atol=1e-6), "Equal pictures have other rows."
        again = embedder.embed(pictures[[0, 1, 0, 2]])
        assert torch.equal(rows, again), "The same pictures have other rows at a second call."
        alone = embedder.embed(pictures[:1])[0]
        assert torch.allclose(rows[0], alone, rtol=1e-3, atol=1e-5), "A picture's row depends on the other pictures."

    def test_different_pictures_have_different_directions(self, embedder: Embedder, pictures: Tensor) -> None:
        score = vendi_score(embedder.embed(pictures))
        assert score > 1.000001, "The Vendi score of different pictures is 1: all rows have one direction."

    def test_it_changes_nothing(self, embedder: Embedder, pictures: Tensor) -> None:
        before = pictures.clone()
        embedder.embed(pictures)
        assert torch.equal(pictures, before), "It changed the pictures that it was given: work on a copy."


class ExporterConformance:
    """Holds an exporter to its contract. Override `exporter`, and `edits` for one that needs another set."""

    @pytest.fixture
    def exporter(self) -> Exporter:
        """The exporter under test."""
        pytest.fail("Override the fixture `exporter`: it gives an instance of yours.")

    @pytest.fixture
    def edits(self) -> EditSet:
        """A finished set."""
        return fakes.edit_set()

    def test_it_says_what_it_is(self, exporter: Exporter) -> None:
        has_name_and_summary(exporter)

    def test_it_writes_into_its_folder_and_nowhere_else(
        self, exporter: Exporter, edits: EditSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("out", "here", "home"):
            (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / "here")
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        exporter.export(edits, tmp_path / "out")
        found = {file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*") if file.is_file()}
        outside = sorted(name for name in found if not name.startswith("out/"))
        assert not outside, f"It writes outside of the folder it is given: {', '.join(outside)}."
        assert found, "It writes no file."

    def test_it_works_twice(self, exporter: Exporter, edits: EditSet, tmp_path: Path) -> None:
        names = []
        for name in ("one", "two"):
            written = edits.save(tmp_path / name, [exporter])
            names.append(sorted(path.relative_to(tmp_path / name).as_posix() for path in written))
        assert names[0] == names[1], f"The second time it writes {names[1]} instead of {names[0]}."

    def test_any_set(self, exporter: Exporter, tmp_path: Path) -> None:
        for name, edits in (("one", fakes.edit_set(1)), ("unchecked", fakes.edit_set(2, checked=False))):
            try:
                assert edits.save(tmp_path / name, [exporter]), "nothing was written"
            except (OSError, AssertionError) as error:
                pytest.fail(f"A set that is {name} cannot be exported: {error}")

    def test_it_changes_nothing(self, exporter: Exporter, edits: EditSet, tmp_path: Path) -> None:
        before = edits.to_dict(), [image.tobytes() for image in edits.images]
        exporter.export(edits, tmp_path)
        after = edits.to_dict(), [image.tobytes() for image in edits.images]
        assert before == after, "It changed the set that it was given: work on a copy."


def _verdicts(check: Check, case: Case) -> list[Verdict]:
    check.prepare()
    return list(check.verdicts(case))


def _same(verdicts: Sequence[Verdict], others: Sequence[Verdict], how: str) -> None:
    for i, (one, other) in enumerate(zip(verdicts, others, strict=True)):
        close = one.value == other.value
        if one.value is not None and other.value is not None:
            close = math.isclose(one.value, other.value, rel_tol=1e-3, abs_tol=1e-4)
        assert close and one.kept == other.kept, (  # noqa: PT018 (one message)
            f"Edit {i} is judged otherwise {how}: {one.value} and kept {one.kept}, {other.value} and kept {other.kept}."
        )
