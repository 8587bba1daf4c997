"""Checks, embedders and exporters from a third party's point of view: used by name and as objects, through the public
API and the command line; what goes wrong is said in words that name it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from plugging import Even, Register, cli_edit, edit

from ctxrep_edit import (
    BrokenPlugin,
    Case,
    Check,
    Embedder,
    Exporter,
    InputError,
    OutputError,
    PluginError,
    Verdict,
    assess,
)

# Checks


class Unready(Even):
    name = "unready"

    def __init__(self, error: type[Exception] = InputError) -> None:
        self.error = error

    def prepare(self) -> None:
        raise self.error("There is no judge: fetch one.")


class Short(Even):
    name = "short"

    def verdicts(self, case: Case) -> list[Verdict]:
        return super().verdicts(case)[1:]


class Broken(Even):
    name = "broken"

    def verdicts(self, case: Case) -> list[Verdict]:
        raise LookupError("nothing found")


def test_ctxrep_checks(picture: Image.Image, photo: Path, folder: Path, pipeline: Any, registered: Register) -> None:
    check = Even()
    registered(ctxrep_checks=lambda: [check])
    mask = Image.new("L", picture.size, 255)
    edits = edit(picture, pipeline=pipeline, preserve=["even", "preservation"], mask=mask)
    assert [list(entry.verdicts) for entry in edits] == [["even", "preservation"]] * 2
    assert [entry.verdicts["even"].kept for entry in edits] == [True, False]
    assert edits[1].verdict.reason == "1 is odd"
    case = check.seen
    assert case.source.shape == (1, *case.edits.shape[1:]) == (1, 3, 32, 48)
    assert case.round_trip().shape == case.source.shape
    assert (case.instruction, case.first_is_plain, bool(case.mask.all())) == ("change the light", True, True)
    assert edit(picture, pipeline=pipeline, preserve=[Even()])[1].verdict.kept is False  # given as an object
    told = cli_edit(photo, folder, "--check", "even")
    assert [entry["verdicts"]["even"]["kept"] for entry in told["edits"]] == [True, False]


@pytest.mark.parametrize(
    ("check", "cause"),
    [
        (Broken(), "LookupError: nothing found"),
        (Short(), "it gave 1 verdicts of 2, each of which must be a Verdict"),
    ],
)
def test_ctxrep_checks_that_go_wrong(
    picture: Image.Image, pipeline: Any, check: Check, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = f"The check {check.name} failed: {cause}. Mend it, or leave it out of preserve."
    with pytest.warns(BrokenPlugin) as caught:
        edits = edit(picture, pipeline=pipeline, preserve=[check, Even()])
    assert [str(warning.message) for warning in caught] == [message]
    assert [entry.verdict.kept for entry in edits] == [False, False]  # neither lost nor passed unseen
    assert edits[0].verdict.reason == f"not judged: {cause}"
    assert edits[0].verdicts["even"].kept
    monkeypatch.setenv("CTXREP_EDIT_STRICT", "1")
    with pytest.raises(PluginError) as strict:
        edit(picture, pipeline=pipeline, preserve=[check])
    assert str(strict.value) == message


def test_ctxrep_checks_say_what_is_missing_before_the_run(picture: Image.Image, pipeline: Any) -> None:
    steps: list[int] = []
    with pytest.raises(InputError, match=r"^There is no judge: fetch one\.$"):
        edit(picture, pipeline=pipeline, preserve=[Unready()], on_step=lambda step, of: steps.append(step))
    assert steps == []
    unready = Unready(LookupError)
    for asked in (
        lambda: edit(picture, pipeline=pipeline, preserve=[unready]),
        lambda: assess(picture, [picture], checks=[unready]),
    ):
        with pytest.raises(
            PluginError, match=r"^The check unready cannot be prepared: LookupError: There is no judge: fetch one\."
        ):
            asked()
    with pytest.raises(InputError, match=r"^There is no check 'evn': choose one of alignment, .*, or give one of your"):
        edit(picture, pipeline=pipeline, preserve=["evn"])


# Embedders


class Flat(Embedder):
    name = "flat"
    summary = "one direction for all"

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        assert images.shape == (2, 3, 32, 48)
        return torch.ones(len(images), 3, dtype=torch.float64)


class Apart(Embedder):
    name = "apart"
    summary = "a direction for each"

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        return torch.eye(len(images))


def test_ctxrep_embedders(picture: Image.Image, pipeline: Any, registered: Register) -> None:
    registered(ctxrep_embedders=lambda: [Flat(), Apart()])
    edits = edit(picture, pipeline=pipeline)
    assert edits.vendi_in("flat") == pytest.approx(1)
    assert edits.vendi_in("apart") == pytest.approx(2)
    assert edits.vendi_in(Apart()) == pytest.approx(2)
    with pytest.raises(InputError) as unknown:
        edits.vendi_in("flatt")
    assert str(unknown.value) == (
        "There is no embedder 'flatt': choose one of alexnet, alexnet-layout, apart, flat, or give one of your own."
    )


# Exporters


class Notes(Exporter):
    name = "notes"
    summary = "the seeds, in a sub-folder"

    def export(self, edits: Any, folder: Path) -> None:
        assert list(folder.iterdir()) == []
        (folder / "notes").mkdir()
        (folder / "notes" / "seeds.txt").write_text(" ".join(str(entry.seed) for entry in edits))


class Failing(Notes):
    name = "failing"

    def export(self, edits: Any, folder: Path) -> None:
        super().export(edits, folder)
        raise LookupError("nothing found")


class Same(Notes):
    name = "same"


def test_ctxrep_exporters(
    picture: Image.Image, photo: Path, folder: Path, pipeline: Any, registered: Register, tmp_path: Path
) -> None:
    registered(ctxrep_exporters=lambda: [Notes()])
    edits = edit(picture, pipeline=pipeline)
    assert edits.save(tmp_path / "a", ["notes"]) == [tmp_path / "a" / "notes" / "seeds.txt"]
    assert (tmp_path / "a" / "notes" / "seeds.txt").read_text() == "7 8"
    assert len(edits.save(tmp_path / "b", ["json", Notes()])) == 2
    cli_edit(photo, folder, "--export", "notes", "--no-check")
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"bank.safetensors", "edit-1.png", "edit-2.png", "source.png", "sheet.png", "edits.json", "notes"}


def test_ctxrep_exporters_that_go_wrong(picture: Image.Image, pipeline: Any, tmp_path: Path) -> None:
    edits = edit(picture, pipeline=pipeline)
    for exporters, message in (
        (
            ["json", Failing()],
            "The exporter failing failed: LookupError: nothing found. Nothing was written: leave it out.",
        ),
        ([Notes(), Same()], f"Two exporters write {Path('notes', 'seeds.txt')}, same the second: leave one out."),
    ):
        with pytest.raises(OutputError) as failed:
            edits.save(tmp_path, exporters)
        assert str(failed.value) == message
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError) as unknown:
        edits.save(tmp_path, ["pngs"])
    assert str(unknown.value) == (
        "There is no exporter 'pngs': choose one of bank, json, png, report, sheet, or give one of your own."
    )
