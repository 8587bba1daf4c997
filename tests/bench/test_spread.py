"""`ctxrep-edit bench spread`: it resumes, and what goes wrong in one method stays there."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from ctxrep_plugins.bench.spread.methods import sweep
from ctxrep_plugins.bench.spread.results import VERSION
from ctxrep_plugins.bench.tasks import sizes_of, tasks
from ctxrep_plugins.nano.world import photos
from PIL import Image

from ctxrep_edit import Strategy, cli, default_settings, load_pipeline


class Fails(Strategy):
    name = "fails"
    summary = "raises"

    def sample(self, run: Any) -> Any:
        raise ZeroDivisionError("division by zero")


def spread(*arguments: object) -> Result:
    return CliRunner().invoke(cli.cli, ["bench", "spread", "--photos", "1", "-n", "2", *map(str, arguments)])


def test_it_writes_its_figures_and_goes_on_where_it_stopped(tmp_path: Path, registered: Any) -> None:
    registered(ctxrep_strategies=lambda: [Fails()])
    methods = [part for name in ("plain", "contextual*1", "fails") for part in ("--method", name)]
    files = [part for name in ("output", "markdown", "plot") for part in (f"--{name}", tmp_path / f"x.{name}")]
    files[-1] = tmp_path / "x.png"
    with pytest.warns(UserWarning, match="The method fails failed and is left out: division by zero"):
        first = spread(*methods, *files, "--trials", tmp_path / "trials.jsonl")
    assert first.exit_code == 0, first.output
    plain, ours, broken = json.loads((tmp_path / "x.output").read_text())
    keys = {"method", "model", "n", "distinct", "right", "lpips_outside", "vendi", "seconds"}
    assert keys <= set(plain) & set(ours)
    assert (plain["method"], ours["method"], plain["model"], plain["n"]) == ("plain", "contextual*1", "kontext-nano", 2)
    assert plain["evaluations"] == plain["time"] == 1
    assert ours["evaluations"] == round(22 / 24, 5)  # of two of 12 steps the anchor alone, in the digits of the file
    assert ours["time"] > 0
    assert broken["error"] == "ZeroDivisionError: division by zero"
    assert (tmp_path / "x.markdown").read_text().count("| contextual*1 |") == 2
    assert "…" not in first.stdout  # in a terminal of 80 columns no name and no number is cut
    with Image.open(tmp_path / "x.png") as plot:
        assert plot.size[0] > 400
    (trials,) = tmp_path.glob("trials-*.jsonl")
    lines = trials.read_text().splitlines()
    assert json.loads(lines[0])["version"] == VERSION
    assert len(lines) == 1 + 2 * 12
    trials.write_text("\n".join(lines[:-2]) + "\n" + lines[-1][:20])  # cut off while it was written
    methods = ["--method", "plain", "--method", "contextual*1"]
    second = spread(*methods, *files, "--trials", tmp_path / "trials.jsonl", "--json")
    assert second.exit_code == 0, second.output
    again = json.loads(second.stdout)
    assert again == json.loads((tmp_path / "x.output").read_text())
    assert again[0]["distinct"] == plain["distinct"]
    assert again[1]["right"] == ours["right"]
    other = spread("--method", "contextual", "--tau", "1", "--trials", tmp_path / "trials.jsonl")
    assert other.exit_code == 1
    differ = "written with {'hold': 0.06, 'steps': None}, this run has {'hold': 0.0, 'steps': 1}: name another --trials"
    assert differ in other.stderr
    trials.write_text(lines[0].replace(f'"version": {VERSION}', '"version": 0') + "\n")
    other = spread("--method", "plain", "--trials", tmp_path / "trials.jsonl")
    assert other.exit_code == 1
    assert "{'version': 0}" in other.stderr
    assert "or delete this one" in other.stderr
    trials.write_text("[]\n")
    other = spread("--method", "plain", "--trials", tmp_path / "trials.jsonl")
    assert "is no file of trials" in other.stderr


def test_steps_and_oversampling_are_counted_on_a_model_of_ones_own(tmp_path: Path) -> None:
    shutil.copytree(load_pipeline("kontext-nano", progress=False).config._name_or_path, tmp_path / "mine")
    methods = ["--method", "plain", "--method", "contextual*1", "--method", "contextual*3/pooled:0.5"]
    result = spread(*methods, "--model", tmp_path / "mine", "--steps", "4", "--json")
    assert result.exit_code == 0, result.output
    plain, one, three = json.loads(result.stdout)
    assert (three["method"], three["family"]) == ("contextual*3/pooled:0.5", "contextual*3/pooled")
    # of 4 steps the window takes the first and some of the second, and the third chooses: 3 + 3 + 2 + 1 for 4
    assert (plain["evaluations"], one["evaluations"], three["evaluations"]) == (1, 1, 2.25)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "cads:much"], "The method 'cads:much' has the strength 'much': give a number, as in cads:0.5."),
        (["--method", "cads/paper"], "The method 'cads/paper' is more than cads with a strength, which is all"),
        (["--method", "cads*2"], "The method 'cads*2' is more than cads with a strength, which is all that it takes."),
        (["--method", "contextual*many"], "oversamples 'many' times: give a whole number, as in contextual*2."),
        (["--method", "nonsense"], "There is no strategy 'nonsense': choose one of"),
        (["--sweep", "--method", "cads"], "--sweep takes every strategy"),
    ],
)
def test_what_it_cannot_do(arguments: list[str], message: str) -> None:
    result = spread(*arguments)
    assert result.exit_code == 1
    assert message in result.stderr


def test_crops_are_of_sizes_that_the_model_edits_at() -> None:
    assert sizes_of(load_pipeline("kontext-nano", progress=False)) == photos.BUCKETS
    megapixel = load_pipeline("qwen-nano", progress=False)  # of which the others are no multiples
    assert sizes_of(megapixel) == ((64, 64), (56, 72), (72, 56))
    shapes = {task.photo: task.picture.shape for task in tasks(photos.held_out(), 5, 0, sizes=sizes_of(megapixel))}
    assert [shapes[photo][:2] for photo in range(5)] == [(64, 64), (56, 72), (72, 56), (64, 64), (56, 72)]


def test_a_sweep_lies_around_what_is_in_force() -> None:
    pipeline = load_pipeline("kontext-nano", progress=False)  # at 1.5
    for changes, strengths in (({}, ("0.75", "1.5", "3")), ({"strength": 4.0}, ("2", "4", "8"))):
        labels = [how.label for how in sweep(pipeline, changes, replace(default_settings(pipeline), **changes))]
        assert [label for label in labels if label.startswith("contextual:")] == [f"contextual:{x}" for x in strengths]
        assert {"plain", "cads:0.3", "contextual", "contextual/pooled"} <= {*labels}
