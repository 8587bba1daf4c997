"""What the documentation shows can be run as it stands: its Python blocks and its command lines."""

from __future__ import annotations

import asyncio
import shlex
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pages
import pytest
import skimage
import tiny
from click.testing import CliRunner
from ctxrep_plugins import batch, bench, calibrate, server
from ctxrep_plugins import page as page_plugin
from diffusers import DiffusionPipeline
from PIL import Image
from serving import serving

from ctxrep_edit import cli
from ctxrep_edit.plugins import loading

PHOTO = Path(skimage.__file__).parent / "data" / "coffee.png"


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder, whose transformer reads a guidance scale as the one of FLUX.1 Kontext does."""
    path = tmp_path_factory.mktemp("models") / "flux"
    tiny.save(path, guidance_embeds=True)
    return path


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flux: Path) -> Iterator[Path]:
    """Where a reader would try a page: a folder with a few pictures, and a tiny FLUX behind the names of the big one.

    What the page registers is taken out afterwards.
    """
    photo = Image.open(PHOTO).convert("RGB").resize((300, 200))
    for name in ("photo.jpg", "room.jpg"):
        photo.save(tmp_path / name)
    Image.new("L", photo.size, 255).save(tmp_path / "table.png")
    monkeypatch.chdir(tmp_path)

    def local(name: Any) -> Any:
        return flux if str(name).startswith("black-forest-labs/FLUX.1-Kontext") else name

    def place(pipe: Any, *where: Any) -> Any:
        return to(pipe, *("cpu" if item == "cuda" else item for item in where))

    load, config, to = DiffusionPipeline.from_pretrained, DiffusionPipeline.load_config, DiffusionPipeline.to
    loader = classmethod(lambda cls, name, **options: load.__func__(cls, local(name), **options))
    reader = classmethod(lambda cls, name, **options: config.__func__(cls, local(name), **options))
    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", loader)
    monkeypatch.setattr(DiffusionPipeline, "load_config", reader)
    monkeypatch.setattr(DiffusionPipeline, "to", place)
    yield tmp_path
    for record in loading.records():
        if not record.distribution:
            loading.unregister(record.name)


@pytest.fixture
def online(
    request: pytest.FixtureRequest, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """The server that the page of the server talks to."""
    if request.getfixturevalue("page").name != "server.md":
        yield
        return
    with serving(folder, state=tmp_path / "state") as place:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{place.url}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        yield


@pages.pages
@pytest.mark.usefixtures("desk", "online")
@pytest.mark.filterwarnings("ignore::ctxrep_edit.TruncatedInstruction")  # the tiny one reads 16 tokens
def test_python_blocks_run(page: Path) -> None:
    pages.run(page)


@pytest.mark.usefixtures("desk")
def test_the_functions_of_the_server_page_work() -> None:
    page = pages.run(pages.DOCS / "backends.md")
    photo = Path("photo.jpg").read_bytes()
    assert len(asyncio.run(page["handler"](photo, "change the light"))) == 4
    job = types.SimpleNamespace(progress=0.0, cancelled=False)
    assert len(page["edit_job"](job, photo, "change the light")) == 6
    assert job.progress == 1.0
    job = types.SimpleNamespace(progress=0.0, cancelled=True)
    with pytest.raises(page["Cancelled"]):
        page["edit_job"](job, photo, "change the light")
    assert not page["lock"].locked()


@pytest.fixture
def commands(desk: Path) -> Iterator[click.Group]:
    """The command line with the commands of the built-in plugins and of the page that shows how to add one."""
    before = {group: dict(group.commands) for group in (cli.cli, cli.bench)}
    bench.ctxrep_commands(cli.bench)
    server.ctxrep_commands(cli.cli)
    batch.ctxrep_commands(cli.cli)
    calibrate.ctxrep_commands(cli.cli)
    page_plugin.ctxrep_commands(cli.cli)
    pages.run(pages.PLUGINS / "commands.md")["ctxrep_commands"](cli.cli, cli.bench)
    yield cli.cli
    for group, known in before.items():
        group.commands = known


def test_command_lines_can_be_read(commands: click.Group, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command and option that a page names exists, and takes what the page gives it."""
    monkeypatch.setattr(click.Command, "invoke", lambda command, context: None)  # reads, and does not run
    lines = {(page.name, line) for page in pages.PAGES for line in pages.command_lines(page)}
    assert len(lines) > 20
    for page, line in sorted(lines):
        result = CliRunner().invoke(commands, shlex.split(line, comments=True)[1:])
        assert result.exit_code == 0, f"{page}: {line}: {result.output}"
    assert CliRunner().invoke(commands, ["photo.jpg", "x", "--nonsense"]).exit_code == 2
    assert CliRunner().invoke(commands, ["bench", "nonsense"]).exit_code == 2
