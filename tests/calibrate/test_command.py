"""`ctxrep-edit calibrate`, on the tiny model, and what it keeps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from click.testing import CliRunner, Result
from ctxrep_plugins.calibrate import keeping, running
from ctxrep_plugins.calibrate.command import calibrate
from ctxrep_plugins.calibrate.design import Cell
from ctxrep_plugins.calibrate.measuring import Measured
from ctxrep_plugins.calibrate.state import State
from PIL import Image

from ctxrep_edit import InputError, calibration_file, default_settings, diverse_edit, load_pipeline
from ctxrep_edit.testing import tiny_picture

FOUND = Cell("middle", 0.7, 0.2, 1)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model folder of the test's own, without settings that somebody wrote."""
    folder = tmp_path / "model"
    tiny.save(folder)
    stated = json.loads((folder / "ctxrep.json").read_text())
    (folder / "ctxrep.json").write_text(json.dumps({**stated, "repulsion": {}}))
    return folder


@pytest.fixture
def given(tmp_path: Path) -> list[str]:
    """Two photographs, three instructions."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(2):
        noise = np.random.default_rng(i).integers(0, 255, (6, 8, 3), np.uint8)
        Image.fromarray(noise).resize((80, 60), Image.Resampling.BICUBIC).save(photos / f"{i}.png")
    (tmp_path / "words.txt").write_text("# ours\nchange the light\nmake it red\n\nchange the light\nadd a hat\n")
    return ["--photos", str(photos), "--instructions", str(tmp_path / "words.txt"), "-n", "2"]


@pytest.fixture
def state(model: Path, given: list[str], tmp_path: Path) -> State:
    """What has been measured of them, in `out`: nothing yet."""
    pipeline = load_pipeline(model, device="cpu", progress=False)
    asked = {"photos": tmp_path / "photos", "instructions": tmp_path / "words.txt", "n": 2}
    return running.Calibration(pipeline, str(model), tmp_path / "out", **asked).state


def run(*arguments: object) -> Result:
    return CliRunner().invoke(calibrate, [str(argument) for argument in arguments])


def test_no_setting_helps_random_weights(model: Path, given: list[str], tmp_path: Path) -> None:
    options = ["--model", model, *given, "--scope", "middle", "--steps", 2, "--budget", 10, "-o", tmp_path / "out"]
    first = run(*options)
    assert first.exit_code == 0, first.output
    assert f"No setting helps on {model}: " in first.stdout
    assert json.loads((model / "ctxrep.json").read_text())["repulsion"] == {}
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "No setting helps on" in page
    assert page.count("<polyline") >= 2
    assert page.count("data:image/webp;base64,") >= 8
    assert "middle:1.5:0.1" in page

    state = tmp_path / "out" / "state.json"
    before, made = state.read_text(), state.stat().st_mtime_ns
    again = run(*options, "--json")  # all of it is known
    assert again.exit_code == 0, again.output
    stated = json.loads(again.stdout)
    assert (stated["found"], stated["kept"], stated["ended_early"]) == (None, None, False)
    assert {ruling["helps"] for ruling in stated["settings"].values()} == {False}
    assert (state.read_text(), state.stat().st_mtime_ns) == (before, made)
    other = run(*options[:-2], "--seed", 5, "-o", tmp_path / "out")
    assert isinstance(other.exception, InputError)
    assert "holds a calibration of something else (seed 0, now 5)" in str(other.exception)


def test_a_stopped_calibration_goes_on(
    model: Path, given: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, made = running.made, list[Any]()

    def stopped(pipeline: Any, task: Any, repulsion: Any, *others: Any) -> Any:
        if len(made) % 4 == 3:
            made.append(None)
            raise KeyboardInterrupt
        made.append((task.number, repulsion))
        return make(pipeline, task, repulsion, *others)

    monkeypatch.setattr(running, "made", stopped)
    options = ["--model", model, *given, "--scope", "context", "--budget", 2, "-o", tmp_path / "out", "--dry-run"]
    assert run(*options).exit_code != 0
    before = json.loads((tmp_path / "out" / "state.json").read_text())["sets"]
    assert sum(len(sets) for sets in before.values()) == 3
    assert run(*options).exit_code != 0
    after = json.loads((tmp_path / "out" / "state.json").read_text())["sets"]
    assert sum(len(sets) for sets in after.values()) == 6
    assert all(after[label][task] == one for label, sets in before.items() for task, one in sets.items())
    done = [one for one in made if one]
    assert len(done) == len({*done}) == 6  # nothing was made twice


def test_what_was_measured_is_of_these_pairs_in_this_order(
    model: Path, given: list[str], tmp_path: Path, state: State
) -> None:
    options = ["--model", model, *given, "-o", tmp_path / "out", "--take", FOUND.label]
    words, photo = tmp_path / "words.txt", tmp_path / "photos" / "1.png"
    state.add("plain", 0, Measured(1.0, 1, 0.0, None, None, 1.0), None)
    assert run(*options).exit_code == 0

    words.write_text("add a hat\nmake it red\nchange the light\n")
    reordered = run(*options)
    assert isinstance(reordered.exception, InputError)
    assert "holds a calibration of something else (instructions ['change the light'" in str(reordered.exception)
    words.write_text("change the light\nmake it red\nadd a hat\n")
    assert run(*options).exit_code == 0

    Image.open(photo).rotate(180).save(photo)  # another one of the same name
    other = run(*options)
    assert isinstance(other.exception, InputError)
    assert "holds a calibration of something else (photos ['0.png " in str(other.exception)


def test_what_a_person_takes_is_the_default_from_then_on(model: Path, given: list[str], tmp_path: Path) -> None:
    taken = run("--model", model, *given, "--take", FOUND.label, "--oversample", 1, "-o", tmp_path / "out")
    assert taken.exit_code == 0, taken.output
    assert f"Kept in {model / 'ctxrep.json'}." in taken.stdout
    stated = json.loads((model / "ctxrep.json").read_text())
    assert stated["repulsion"] == FOUND.settings
    assert stated["calibrated"]["by"] == "hand"
    assert stated["call"]["num_inference_steps"] == tiny.STEPS  # what else it states is left
    pipeline = load_pipeline(model, device="cpu", progress=False)
    settings = default_settings(pipeline)
    assert (settings.scope, settings.strength, settings.window) == ("middle", 0.7, 0.2)
    edits = diverse_edit(tiny_picture(), "change it", 2, pipeline=pipeline, preserve="off", progress=False)
    assert edits[1].strength == 0.7
    assert edits.recipe["strength_from"].startswith("calibrated on this model, ")
    again = run("--model", model, *given, "--take", "context:2:0.1", "-o", tmp_path / "out")  # ours is replaced
    assert again.exit_code == 0, again.output
    assert json.loads((model / "ctxrep.json").read_text())["repulsion"]["scope"] == "context"


def test_what_a_person_takes_is_said_to_lose_what_it_loses(
    model: Path, given: list[str], tmp_path: Path, state: State
) -> None:
    options = ["--model", model, *given, "-o", tmp_path / "out", "--take", FOUND.label]
    unknown = run(*options)
    assert unknown.stdout.startswith("middle:0.7:0.2 is taken by hand, without having been measured.\n")
    for task in range(6):
        state.add("plain", task, Measured(1.0, 1, 0.0, 0.01, None, 1.0), None)
        state.add(FOUND.label, task, Measured(1.5, 2, 0.5, 0.01, None, 2.0), None)
    losing = run(*options)
    said = (
        "middle:0.7:0.2 is taken by hand: 1.50 times plain&#39;s spread [1.50, 1.50] on 6 tasks in 2.00 of its time, "
        "with losses beyond plain&#39;s interval."
    )
    assert f"<strong>{said}</strong>" in (tmp_path / "out" / "report.html").read_text("utf-8")
    assert losing.stdout.startswith(said.replace("&#39;", "'"))


def test_settings_that_somebody_wrote_are_not_replaced_unasked(model: Path, given: list[str], tmp_path: Path) -> None:
    file = model / "ctxrep.json"
    written = {**json.loads(file.read_text()), "repulsion": {"strength": 0.3, "keep_norm": False}}
    file.write_text(json.dumps(written))
    options = ["--model", model, *given, "--take", FOUND.label, "--oversample", 1, "-o", tmp_path / "out"]
    refused = run(*options)
    assert isinstance(refused.exception, InputError)
    assert "states settings already (strength 0.3, keep_norm False): give --force" in str(refused.exception)
    assert json.loads(file.read_text()) == written
    forced = run(*options, "--force")
    assert forced.exit_code == 0, forced.output
    assert json.loads(file.read_text())["repulsion"] == {"keep_norm": False, **FOUND.settings}
    assert json.loads((model / "ctxrep.json.before").read_text()) == written

    changed = json.loads(file.read_text())
    changed["repulsion"]["strength"] = 7.5  # by hand, in what a calibration kept
    file.write_text(json.dumps(changed))
    refused = run(*options)
    assert isinstance(refused.exception, InputError)
    assert "strength 7.5" in str(refused.exception)
    assert json.loads(file.read_text()) == changed
    forced = run(*options, "--force")
    assert f"what it stated before is in {model / 'ctxrep.json.before-2'}." in forced.stdout
    assert json.loads((model / "ctxrep.json.before-2").read_text()) == changed
    assert json.loads((model / "ctxrep.json.before").read_text()) == written
    again = run(*options)  # nobody changed it, and it says the same
    assert again.exit_code == 0, again.output
    assert f"Kept in {file}.\n" in again.stdout


def test_what_is_kept_replaces_other_ways_to_say_it(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "ctxrep.json"
    assert keeping.keep(file, {"strength": 1.0}, {"date": "2026-01-01"}) is None
    file.write_text(json.dumps({"repulsion": {"eta": 1e6, "steps": 2, "anchor": True}, "sizes": [[64, 64]]}))
    keeping.keep(file, FOUND.settings, {"date": "2026-01-01"})
    stated = json.loads(file.read_text())
    assert stated["repulsion"] == {"anchor": True, **FOUND.settings}
    assert stated["sizes"] == [[64, 64]]
    assert sorted(path.name for path in file.parent.iterdir()) == ["ctxrep.json", "ctxrep.json.before"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--take", "middle:1:0.1", "--dry-run"], "--take keeps a setting and --dry-run keeps none"),
        (["--take", "middle"], "There is no setting 'middle': write scope:strength:window"),
        (["--take", "nowhere:1:0.1"], "has no scope 'nowhere'"),
        (["--take", "middle:1:7"], "window is 7.0"),
        (["--scope", "nowhere"], "has no scope 'nowhere'"),
        (["--embedder", "dinosaur"], "There is no embedder 'dinosaur'"),
        (["--photos", "no/such"], "There is no folder no/such"),
        (["--photos", str(Path(__file__).parent)], "holds no .jpeg, .jpg, .png, .webp: name a folder with photographs"),
        (["--instructions", "no-such.txt"], "The instructions in no-such.txt cannot be read"),
    ],
)
def test_what_cannot_be_is_said_first(model: Path, tmp_path: Path, options: list[str], message: str) -> None:
    done = run("--model", model, *options, "-o", tmp_path / "out")
    assert isinstance(done.exception, InputError)
    assert message in str(done.exception)
    assert not (tmp_path / "out" / "report.html").exists()


def test_an_embedded_model_is_asked_what_it_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ctxrep_plugins.calibrate.tasks import INSTRUCTIONS, instructions

    monkeypatch.setenv("CTXREP_EDIT_CONFIG", str(tmp_path))
    pipeline = load_pipeline("sd3-nano", device="cpu")
    assert instructions(None, "sd3-nano", pipeline) == list(INSTRUCTIONS[:6])
    strange = tmp_path / "words.txt"
    strange.write_text("make it autumn")
    with pytest.raises(InputError, match="sd3-nano was not taught 'make it autumn'"):
        instructions(strange, "sd3-nano", pipeline)
    assert calibration_file(pipeline) == tmp_path / "models" / "sd3-nano.json"  # nothing is written into the package
    keeping.keep(tmp_path / "models" / "sd3-nano.json", FOUND.settings, {"date": "2026-01-01"})
    settings = default_settings(pipeline)
    assert (settings.scope, settings.strength, settings.keep_norm) == ("middle", 0.7, False)


HUB = """
import sys, warnings
from ctxrep_edit import calibration_file, default_settings, diverse_edit, load_pipeline
from ctxrep_edit.testing import tiny_picture
from ctxrep_plugins.calibrate import keeping
pipeline = load_pipeline("me/tiny", device="cpu", progress=False)
file = calibration_file(pipeline)
keeping.keep(file, {"scope": "middle", "strength": 0.7}, {"date": "2026-01-01"})
print(file, default_settings(pipeline).strength)
"""


def test_a_model_of_the_hub_is_known_by_its_commit(tmp_path: Path, folder: Path) -> None:
    commit, cache = "0123456789abcdef" * 2 + "01234567", tmp_path / "hub" / "models--me--tiny"
    (cache / "snapshots").mkdir(parents=True)
    (cache / "snapshots" / commit).symlink_to(folder)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    home = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "CTXREP_EDIT_CONFIG": str(tmp_path / "config")}
    done = subprocess.run(
        [sys.executable, "-c", HUB], capture_output=True, text=True, check=False, env={**os.environ, **home}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'config' / 'models' / f'me--tiny@{commit}.json'} 0.7\n"


def test_a_set_is_measured_by_what_no_check_objects_to() -> None:
    from ctxrep_plugins.calibrate.measuring import measured

    from ctxrep_edit import DEFAULT_CHECKS, Verdict
    from ctxrep_edit.testing import edit_set

    edits = edit_set(3)
    for i, edit in enumerate(edits):
        kept = {name: Verdict(True, "LPIPS to the source", 0.2, 0.8, "") for name in DEFAULT_CHECKS}
        lost = Verdict(i > 0, "loss outside the edit, in LPIPS", 0.01 * i, 0.02, "")
        object.__setattr__(edit, "verdicts", {**kept, "preservation": lost})
    one = measured(edits, "alexnet")
    assert isinstance(one, Measured)
    assert one.failed == pytest.approx(1 / 3)
    assert one.lpips == pytest.approx(0.01)
    assert 1 <= one.spread <= 2
    assert one.following is None
