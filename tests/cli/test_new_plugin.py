"""`ctxrep-edit new-plugin`: what it writes works as it stands, and it refuses politely."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import command_line
import pytest
from click.testing import Result

from ctxrep_edit.cli import scaffold

HELLO = Path(__file__).parents[2] / "examples" / "ctxrep-edit-hello"


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs the command in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Result:
        return command_line.call("new-plugin", *arguments)

    return run


def written(folder: Path) -> dict[str, str]:
    paths = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_text("utf-8") for path in paths}


def test_the_example_is_what_it_writes(call, tmp_path: Path) -> None:
    result = call("ctxrep-edit-hello")
    assert result.exit_code == 0, result.output
    made = written(tmp_path / "ctxrep-edit-hello")
    assert made == written(HELLO)
    *listed, next_ = result.stdout.splitlines()
    assert sorted(listed) == sorted(f"ctxrep-edit-hello/{path}" for path in made)
    assert next_ == "Next: cd ctxrep-edit-hello; python -m pytest; pip install -e .; ctxrep-edit plugins"
    assert [path.name for path in tmp_path.iterdir()] == ["ctxrep-edit-hello"]


def test_its_tests_pass_at_once(call, tmp_path: Path) -> None:
    """Of every kind, under a name that needs care; those of adapter, strategy and check run in test_hello.py too."""
    kinds = [option for kind in scaffold.KINDS for option in ("--kind", kind)]
    assert call("Acme.3d-Tools", *kinds).exit_code == 0
    folder = tmp_path / "Acme.3d-Tools"
    assert "acme_3d_tools/exporter.py" in written(folder)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    command = [sys.executable, "-W", "error:::ctxrep_", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout.splitlines()[-1]
    assert "skipped" not in done.stdout.splitlines()[-1]


@pytest.mark.parametrize("kind", scaffold.KINDS)
def test_one_kind_alone(kind: str) -> None:
    texts = scaffold.render("ctxrep-edit-hello", [kind])
    mine = [f"ctxrep_edit_hello/{kind}.py", f"tests/test_{kind}.py"]
    mine += ["ctxrep_edit_hello/pipeline.py"] if kind == "adapter" else []
    shared = ["README.md", "ctxrep_edit_hello/__init__.py", "pyproject.toml", "tests/test_plugin.py"]
    assert sorted(texts) == sorted([*mine, *shared])
    for path, text in texts.items():
        assert "$" not in text, path
        if path.endswith(".py"):
            compile(text, path, "exec")


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("ctxrep-edit-foo.bar", "foo-bar"),
        ("ctxrep-edit-a..b", "a-b"),
        ("ctxrep_edit_a_.b", "a-b"),
        ("Acme.3d-Tools", "acme-3d-tools"),
        ("ctxrep-edit-1.5", "1-5"),
    ],
)
def test_any_name_gives_an_entry_point_that_pip_takes(name: str, short: str) -> None:
    for kind in scaffold.KINDS:
        texts = scaffold.render(name, [kind])
        project = tomllib.loads(texts["pyproject.toml"])["project"]
        (module,) = {path.split("/")[0] for path in texts if path.endswith("/__init__.py")}
        assert (project["name"], project["entry-points"]) == (name, {"ctxrep_edit": {short: module}})
        assert f'name = "{short}' in texts[f"{module}/{kind}.py"]


def test_the_help_helps(call) -> None:
    text = call("--help").stdout
    for said in (
        "NAME is the distribution's, as in pip install NAME",
        "ctxrep-edit-gif --kind exporter",
        "may be repeated",
    ):
        assert said in text
    for kind in scaffold.KINDS:
        assert kind in text
    assert "new-plugin" in command_line.call("--help").stdout


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my plugin", "'my plugin' is no name for a distribution: use letters and digits of ASCII and, between them, "
         "-, _ and ., such as ctxrep-edit-hello."),
        ("../hello", "'../hello' is no name for a distribution"),
        ("hello-", "'hello-' is no name for a distribution"),
        ("", "'' is no name for a distribution"),
        ("höflich", "'höflich' is no name for a distribution"),
        ("3d", "'3d' would be imported as 3d, which Python cannot: try ctxrep-edit-3d."),
        ("class", "'class' would be imported as class, which Python cannot: try ctxrep-edit-class."),
        ("torch", "'torch' would be imported as torch, and there is a module of that name already."),
        ("CtxRep-Edit", "'CtxRep-Edit' would be imported as ctxrep_edit, and there is a module of that name already."),
        ("ctxrep-edit-nano", "'ctxrep-edit-nano' would be the plugin nano, and there is one already, nano (ctx"),
        ("ctxrep-edit-flux_kontext", "'ctxrep-edit-flux_kontext' would be the plugin flux-kontext, and there is"),
    ],
)  # fmt: skip
def test_names_that_cannot_be_used(call, tmp_path: Path, name: str, message: str) -> None:
    result = call(name)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {message}")
    assert [*tmp_path.iterdir()] == []


def test_a_kind_that_there_is_not(call, tmp_path: Path) -> None:
    result = call("hello", "--kind", "colour")
    assert result.exit_code == 2
    assert "'colour' is not one of 'adapter', 'strategy', 'check', 'embedder', 'exporter'" in result.stderr
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_what_is_there_stays(call, tmp_path: Path, kind: str) -> None:
    there = tmp_path / "hello"
    {"folder": there.mkdir, "file": there.touch, "link": lambda: there.symlink_to("nowhere")}[kind]()
    result = call("hello")
    assert result.exit_code == 1
    message = f"Error: There is a hello in {tmp_path} already: choose another name, or move it away.\n"
    assert result.stderr == message
    assert [*tmp_path.rglob("*")] == [there]


def test_a_place_that_cannot_be_written(call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of writing, as on a full disk: nothing is left."""
    write = Path.write_text

    def full(path: Path, *arguments: str) -> int:
        if path.name == "adapter.py":
            raise OSError(28, "No space left on device")
        return write(path, *arguments)

    monkeypatch.setattr(Path, "write_text", full)
    result = call("hello")
    assert result.exit_code == 1
    message = f"Error: The folder {tmp_path} cannot be written to: No space left on device. Run this in another one.\n"
    assert result.stderr == message
    assert [*tmp_path.iterdir()] == []
    monkeypatch.setattr(
        "tempfile.TemporaryDirectory", lambda **_: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
    )
    assert "cannot be written to: Permission denied. Run this in another one." in call("hello").stderr
