"""Every hook from a third party's point of view: what a plugin gives is used, through the public API and the command
line, and what goes wrong is said in words that name it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from command_line import call, start
from ctxrep_adapters.flux_kontext import FluxKontext
from diffusers import FluxKontextPipeline
from PIL import Image
from plugging import HOOKS, Even, Register, cli_edit, edit

import ctxrep_edit
from ctxrep_edit import (
    CtxrepError,
    EmbeddedModel,
    InputError,
    OutsideItsWorld,
    PluginError,
    Run,
    Strategy,
    UnknownPipeline,
    cli,
)
from ctxrep_edit.plugins import catalog


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_has_a_test(hook: str) -> None:
    texts = [path.read_text("utf-8") for path in Path(__file__).parent.glob("test_contracts*.py")]
    assert any(f"def test_{hook}(" in text for text in texts)


# Adapters


class Lumen(FluxKontext):
    name = "lumen"
    pipelines = ("LumenPipeline",)

    def arguments(self, pipeline: Any, request: Any) -> dict[str, Any]:
        return {**super().arguments(pipeline, request), "num_inference_steps": 3}


class LumenPipeline(FluxKontextPipeline):
    """A class that only the plugin knows; its base class is known to another adapter."""


def test_ctxrep_adapters(pipeline: Any, picture: Image.Image, registered: Register) -> None:
    parts = {name: part for name, part in pipeline.components.items() if part is not None}
    theirs = LumenPipeline(**parts)
    steps: list[int] = []
    on_step = lambda step, of: steps.append(of)  # noqa: E731
    options = {"pipeline": theirs, "width": 32, "height": 32, "max_sequence_length": 16, "on_step": on_step}
    registered(ctxrep_adapters=lambda: [Lumen()])
    assert catalog.adapter_for(theirs).name == "lumen"
    assert catalog.adapter_for(type("MyLumen", (LumenPipeline,), {})(**parts)).name == "lumen"
    edits = edit(picture, **options)
    assert steps == [3] * 3
    assert edits.recipe["pipeline"] == "LumenPipeline"
    assert edits.contextual_vendi[1] > edits.contextual_vendi[0]
    assert "  LumenPipeline (adapter lumen)\n" in call("models").stdout


def test_ctxrep_adapters_a_class_that_nobody_knows(picture: Image.Image) -> None:
    with pytest.raises(UnknownPipeline) as unknown:
        edit(picture, pipeline=type("Stranger", (), {})())
    assert str(unknown.value) == (
        f"No adapter drives Stranger. Known pipelines: {', '.join(sorted(catalog.pipelines()))}. To add one, subclass "
        "ctxrep_edit.Adapter and register it: see docs/plugins/adapters.md."
    )


# Models


def test_ctxrep_refused(registered: Register) -> None:
    pipeline = object.__new__(LumenPipeline)  # its class alone is looked at
    assert catalog.adapter_for(pipeline).name == "flux-kontext"
    registered(ctxrep_refused=lambda: [("LumenPipeline", "it is made of glass")])
    with pytest.raises(UnknownPipeline, match=r"^LumenPipeline cannot be driven: it is made of glass\.$"):
        catalog.adapter_for(pipeline)


def test_ctxrep_models(picture: Image.Image, photo: Path, folder: Path, registered: Register) -> None:
    small = EmbeddedModel("small", folder, "a small one", lambda words: "light" in words, "It knows light.")
    registered(ctxrep_models=lambda: [small])
    edits = edit(picture, model="small")
    assert edits.recipe["model"] == "small"
    with pytest.warns(OutsideItsWorld) as caught:
        edit(picture, model="small", instruction="add a hat")
    assert str(caught[0].message) == ("small was not taught 'add a hat', so its edits mean little. It knows light.")
    assert "  small: a small one\n" in call("models").stdout
    assert cli_edit(photo, folder, "--model", "small", "--no-check")["recipe"]["model"] == "small"


# Strategies


class Marked(Strategy):
    """The first candidate white, the others plain."""

    name = "marked"
    summary = "marks the first"
    strength = 0.25

    def sample(self, run: Run) -> torch.Tensor:
        images = run.call()
        images[0] = 1
        run.still = 0
        return images


class Half(Strategy):
    name = "half"
    summary = "gives too few"

    def sample(self, run: Run) -> Any:
        return run.call()[0]


class Raises(Strategy):
    name = "raises"
    summary = "raises after a step"

    def sample(self, run: Run) -> Any:
        def stop(*_: Any) -> Any:
            raise LookupError("nothing found")

        return run.call(after_step=stop)


def test_ctxrep_strategies(
    picture: Image.Image, photo: Path, folder: Path, pipeline: Any, registered: Register
) -> None:
    registered(ctxrep_strategies=lambda: [Marked()])
    plain = edit(picture, pipeline=pipeline, strength=0, strategy="marked")
    edits = edit(picture, pipeline=pipeline, strategy="marked")
    assert edits[0].image.getextrema() == ((255, 255),) * 3
    assert edits[1].image == plain[1].image
    assert (edits.recipe["strategy"], edits.recipe["repulsion"]["strength"]) == ("marked", 0.25)
    assert [entry.strength for entry in edits] == [0.25, 0.25]
    assert edit(picture, pipeline=pipeline, strategy=Marked()).images == edits.images  # given as an object
    told = cli_edit(photo, folder, "--strategy", "marked", "--strength", 0.5, "--no-check")
    assert (told["recipe"]["strategy"], told["recipe"]["repulsion"]["strength"]) == ("marked", 0.5)
    message = r"^The strategy marked takes a strength only: leave scope, window, oversample and repulsion out\.$"
    with pytest.raises(InputError, match=message):
        edit(picture, pipeline=pipeline, strategy="marked", scope="context")


def test_ctxrep_strategies_that_go_wrong(picture: Image.Image, pipeline: Any, registered: Register) -> None:
    registered(ctxrep_strategies=lambda: [Half(), Raises()])
    with pytest.raises(PluginError) as half:
        edit(picture, pipeline=pipeline, strategy="half")
    assert str(half.value) == "The strategy half made (3, 32, 48), but must make (2, 3, h, w) in [0, 1]."
    with pytest.raises(LookupError, match="nothing found"):  # as it is, and the fixture sees a clean pipeline
        edit(picture, pipeline=pipeline, strategy="raises")
    with pytest.raises(InputError) as unknown:
        edit(picture, pipeline=pipeline, strategy="haff")
    assert str(unknown.value) == (
        "There is no strategy 'haff': choose one of cads, contextual, dave, feature-self-guidance, group-inference, "
        "half, particle-guidance, prompt-noise, raises, sparke, or give one of your own."
    )


# Commands


def test_ctxrep_commands(registered: Register, monkeypatch: pytest.MonkeyPatch) -> None:
    for group in (cli.cli, cli.bench):
        monkeypatch.setattr(group, "commands", dict(group.commands))

    @click.command()
    @click.argument("name")
    def hello(name: str) -> None:
        if name == "nobody":
            raise InputError("There is nobody: name somebody.")
        click.echo(f"hello {name}")

    def ctxrep_commands(cli: click.Group, bench: click.Group) -> None:
        cli.add_command(hello)
        bench.add_command(hello)

    registered(ctxrep_commands=ctxrep_commands)

    assert start("hello", "you").stdout == "hello you\n"
    assert start("bench", "hello", "you").stdout == "hello you\n"
    assert "hello" in start("--help").stdout
    refused = start("hello", "nobody")
    assert (refused.exit_code, refused.stderr) == (1, "Error: There is nobody: name somebody.\n")


# Events


class Listener:
    def __init__(self) -> None:
        self.told: list[Any] = []

    @ctxrep_edit.hookimpl
    def ctxrep_edit_started(self, instruction: str, n: int, recipe: Any) -> None:
        json.dumps(recipe)
        self.told.append(("started", instruction, n, recipe["strategy"]))

    @ctxrep_edit.hookimpl
    def ctxrep_candidate_ready(self, edit: Any, n: int) -> None:
        self.told.append(("ready", edit.seed, bool(edit.verdict and edit.verdict.kept), n))

    @ctxrep_edit.hookimpl
    def ctxrep_edit_finished(self, edits: Any) -> None:
        self.told.append(("finished", edits))


@pytest.fixture
def listener() -> Any:
    heard = Listener()
    ctxrep_edit.register(heard, "listener")
    yield heard
    ctxrep_edit.unregister("listener")


def test_ctxrep_edit_started(picture: Image.Image, pipeline: Any, listener: Listener) -> None:
    told: list[Any] = []
    edit(picture, pipeline=pipeline, on_step=lambda step, of: told.append(list(listener.told)))
    assert told == [[("started", "change the light", 2, "contextual")]] * 4  # once, before the first step


def test_ctxrep_candidate_ready(picture: Image.Image, pipeline: Any, listener: Listener) -> None:
    edit(picture, pipeline=pipeline, preserve=[Even()])
    assert listener.told[1:-1] == [("ready", 7, True, 2), ("ready", 8, False, 2)]


def test_ctxrep_edit_finished(picture: Image.Image, pipeline: Any, listener: Listener) -> None:
    edits = edit(picture, pipeline=pipeline)
    assert listener.told[-1] == ("finished", edits)
    assert [line[0] for line in listener.told].count("finished") == 1


@pytest.mark.parametrize("error", [CtxrepError("stop"), KeyboardInterrupt()])
def test_ctxrep_edit_finished_is_not_told_of_a_run_that_ended_early(
    picture: Image.Image, pipeline: Any, listener: Listener, error: BaseException
) -> None:
    def stop(step: int, of: int) -> None:
        raise error

    with pytest.raises(type(error)):
        edit(picture, pipeline=pipeline, on_step=stop)
    assert [line[0] for line in listener.told] == ["started"]


def test_ctxrep_edit_started_is_not_told_of_a_request_that_cannot_be_met(
    picture: Image.Image, pipeline: Any, listener: Listener
) -> None:
    with pytest.raises(InputError):
        edit(picture, pipeline=pipeline, scope="nonsense")
    assert listener.told == []
