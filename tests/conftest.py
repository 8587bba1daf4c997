"""One tiny pipeline for all tests, and a picture to edit."""

import copy
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import plugging
import pytest
import tiny
from diffusers import FluxKontextInpaintPipeline, FluxKontextPipeline
from PIL import Image

from ctxrep_edit import cli, hookimpl, load_pipeline
from ctxrep_edit.plugins import loading
from ctxrep_edit.plugins.discovery import Offer


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder."""
    path = tmp_path_factory.mktemp("models") / "tiny"
    tiny.save(path)
    return path


@pytest.fixture(scope="session")
def loaded(folder: Path) -> FluxKontextPipeline:
    return load_pipeline(folder, device="cpu", progress=False)


@pytest.fixture(params=[FluxKontextPipeline])
def pipeline(
    request: pytest.FixtureRequest, loaded: FluxKontextPipeline, folder: Path
) -> Iterator[FluxKontextPipeline]:
    """A pipeline of the test's own. Whatever the test does, no hook of ours may be left on it."""
    scheduler = type(loaded.scheduler).from_config(loaded.scheduler.config)  # at no step of another test's run
    parts = {**loaded.components, "transformer": copy.deepcopy(loaded.transformer), "scheduler": scheduler}
    parts = {name: part for name, part in parts.items() if part is not None}
    made = request.param(**parts)
    made.register_to_config(_name_or_path=str(folder))
    yield made
    assert made.scheduler is scheduler
    for module in made.transformer.modules():
        assert "ctxrep_edit" not in getattr(getattr(module, "_diffusers_hook", None), "hooks", {})


@pytest.fixture
def registered() -> Iterator[Callable[..., Any]]:
    """Registers hooks as a plugin called "theirs" (or `name`) for the time of the test."""
    names: list[str] = []

    def install(name: str = "theirs", **hooks: Any) -> Any:
        plugin = types.SimpleNamespace(**{hook: hookimpl(function) for hook, function in hooks.items()})
        loading.register(plugin, name)
        names.append(name)
        return plugin

    yield install
    for name in names:
        loading.unregister(name)


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[plugging.Install]:
    """Installs plugins instead of the real ones, with CTXREP_EDIT_PLUGINS and CTXREP_EDIT_STRICT."""
    before = {group: dict(group.commands) for group in (cli.cli, cli.bench)}

    def put(*entries: plugging.Found, select: str = "", strict: str = "") -> None:
        offered = [Offer(entry, entry.dist.name, entry.dist.version) for entry in entries]
        monkeypatch.setattr(loading, "offers", lambda: offered)
        monkeypatch.setenv(loading.SELECT, select)
        monkeypatch.setenv(loading.STRICT, strict)
        loading._state.cache_clear()

    yield put
    monkeypatch.undo()
    loading._state.cache_clear()
    for group, commands in before.items():
        group.commands = commands


both = pytest.mark.parametrize("pipeline", [FluxKontextPipeline, FluxKontextInpaintPipeline], indirect=True)
"""Runs a test on both classes."""


@pytest.fixture(scope="session")
def picture() -> Image.Image:
    """40 x 30 pixels of a gradient."""
    y, x = np.mgrid[0:30, 0:40]
    return Image.fromarray(np.stack([x * 6, y * 8, (x + y) * 3], -1).astype(np.uint8))


@pytest.fixture
def photo(picture: Image.Image, tmp_path: Path) -> Path:
    """The picture as a file."""
    path = tmp_path / "photo.png"
    picture.save(path)
    return path
