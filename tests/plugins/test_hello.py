"""A plugin of somebody else's, built and installed as they would: our wheel and theirs, in an environment of their own.

The heavy libraries are those of the running environment; ctxrep_edit is the one of our wheel.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HELLO = ROOT / "examples" / "ctxrep-edit-hello"

EDITS = """
import json, ctxrep_edit, ctxrep_edit_hello, test_adapter
from ctxrep_edit.testing import tiny_picture
edits = ctxrep_edit.diverse_edit(
    tiny_picture(), "make it night", 3, pipeline=test_adapter.tiny(), strategy="hello-spread",
    preserve=["hello-exposure"], seed=0, progress=False,
)
repelled = ctxrep_edit.diverse_edit(
    tiny_picture(), "make it night", 3, pipeline=test_adapter.tiny(), preserve="off", seed=0, progress=False
)
print(json.dumps({
    "from": [ctxrep_edit.__file__, ctxrep_edit_hello.__file__],
    "recipe": edits.recipe,
    "verdicts": [sorted(edit.verdicts) for edit in edits],
    "vendi": repelled.contextual_vendi,
}))
"""


def run(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "PYTEST", "CTXREP", "VIRTUAL"))
    }
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts' folder of an environment with both wheels; the tests of theirs are beside it."""
    folder = tmp_path_factory.mktemp("hello")
    for source in (ROOT, HELLO):
        run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder / "wheels", cwd=source)
    wheels = sorted((folder / "wheels").glob("*.whl"))
    assert [wheel.name.split("-")[0] for wheel in wheels] == ["ctxrep_edit", "ctxrep_edit_hello"]
    venv.create(folder / "env", with_pip=False, symlinks=True)
    paths = sysconfig.get_paths(scheme="venv", vars={"base": str(folder / "env"), "platbase": str(folder / "env")})
    python = Path(paths["scripts"]) / Path(sys.executable).name
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", *wheels, cwd=folder)
    heavy = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    Path(paths["purelib"], "heavy.pth").write_text("\n".join(heavy) + "\n", "utf-8")  # their own .pth files do nothing
    shutil.copytree(HELLO / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    return python


def test_it_passes_its_own_tests(installed: Path) -> None:
    done = run(installed, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", cwd=installed.parents[2])
    assert " passed" in done.stdout.splitlines()[-1]
    assert "skipped" not in done.stdout.splitlines()[-1]


def test_it_is_listed(installed: Path) -> None:
    done = run(installed.with_name("ctxrep-edit"), "plugins", "--json", cwd=installed.parents[2])
    shown = {entry["name"]: entry for entry in json.loads(done.stdout)["plugins"]}
    assert {"flux_kontext", "nano", "standard"} <= set(shown)
    assert shown["hello"] == {
        "name": "hello", "version": "0.1.0", "distribution": "ctxrep-edit-hello", "source": "ctxrep_edit_hello",
        "hooks": ["ctxrep_adapters", "ctxrep_checks", "ctxrep_strategies"], "status": "ok", "error": "",
        "provides": ["adapter hello", "strategy hello-spread", "check hello-exposure"],
    }  # fmt: skip


def test_our_wheel_brings_the_skeleton(installed: Path) -> None:
    folder = installed.parents[2]
    run(installed.with_name("ctxrep-edit"), "new-plugin", "ctxrep-edit-mine", cwd=folder)
    assert (folder / "ctxrep-edit-mine" / "ctxrep_edit_mine" / "adapter.py").is_file()


def test_diverse_edit_uses_it(installed: Path) -> None:
    done = run(installed, "-c", EDITS, cwd=installed.parents[2] / "tests")
    seen = json.loads(done.stdout.splitlines()[-1])
    assert all(Path(path).is_relative_to(installed.parents[1]) for path in seen["from"]), seen["from"]
    assert seen["recipe"]["pipeline"] == "HelloEditPipeline"
    assert seen["recipe"]["strategy"] == "hello-spread"
    assert seen["verdicts"] == [["hello-exposure"]] * 3
    before, after = seen["vendi"]
    assert 1 <= before < after <= 3
