"""Each cell of the table of docs/interplay.md: repelled edits work beside it, or are refused before the run."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import Any

import interplay
import numpy as np
import pages
import pytest
import tiny
import tiny_sd3
from diffusers import StableDiffusion3Img2ImgPipeline
from PIL import Image

from ctxrep_edit import EditSet, Repulsion, RepulsionError, attach, detach, diverse_edit
from ctxrep_edit.testing import fakes, tiny_pipeline

PAGE = pages.DOCS / "interplay.md"
REPELLED = Repulsion(scope="generated", strength=1.0, steps=2, anchor=False, oversample=1)


def cells(*chosen: interplay.Cell) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("cell", chosen, ids=[cell.name for cell in chosen])


@pytest.fixture
def pipeline(cell: interplay.Cell) -> Any:
    if cell.needs:
        pytest.importorskip(cell.needs.replace("-", "_"))
    if "two evaluations" in cell.name:  # which the pipeline of Kontext gives sigmas that they do not take
        made = tiny_sd3.pipeline(StableDiffusion3Img2ImgPipeline)
    else:
        made = tiny_pipeline()
        made.vae = tiny.autoencoder("kl")
        made.vae.decoder.conv_out.weight.data *= 20  # random weights paint almost nothing
    for blocks in (tiny.DOUBLE, tiny.SINGLE) if cell.short else ():
        setattr(made.transformer, blocks, getattr(made.transformer, blocks)[:1])
    with interplay.clean():
        yield made
    cell.off(made)


def edit(pipeline: Any, picture: Image.Image, settings: Repulsion = REPELLED) -> EditSet:
    return diverse_edit(
        picture, fakes.INSTRUCTION, 2, pipeline=pipeline, seed=0, steps=interplay.STEPS, preserve="off", progress=False,
        repulsion=settings, width=64, height=64, max_sequence_length=fakes.LENGTH,
    )  # fmt: skip


@cells(*interplay.CELLS)
def test_before_attaching(cell: interplay.Cell, pipeline: Any, picture: Image.Image) -> None:
    cell.on(pipeline)
    called: list[int] = []
    handle = pipeline.transformer.register_forward_pre_hook(lambda module, args: called.append(1))
    if cell.outcome == "refused":
        with pytest.raises(RepulsionError):
            edit(pipeline, picture)
        assert not called
        handle.remove()
        return
    handle.remove()
    plain = tiny.pixels(edit(pipeline, picture, Repulsion(strength=0.0)))
    moved = edit(pipeline, picture)
    assert moved.contextual_vendi is not None
    assert moved.contextual_vendi[1] > moved.contextual_vendi[0]
    assert not np.array_equal(tiny.pixels(moved), plain)
    again = tiny.pixels(edit(pipeline, picture, Repulsion(strength=0.0)))
    assert np.abs(again.astype(int) - plain).max() <= 1


@cells(*(cell for cell in interplay.CELLS if cell.later))
def test_after_attaching(cell: interplay.Cell, pipeline: Any, picture: Image.Image) -> None:
    plain = tiny.run(pipeline, picture, 2)
    run = attach(pipeline, REPELLED, particles=2)
    cell.on(pipeline)
    moved = tiny.run(pipeline, picture, 2)
    blocks = len(pipeline.transformer.transformer_blocks) + len(pipeline.transformer.single_transformer_blocks)
    assert len(run.vendi) == 2 * blocks
    detach(run)
    assert (moved - plain).abs().max() > 1e-3
    assert (tiny.run(pipeline, picture, 2) - plain).abs().max() < (moved - plain).abs().max()


@cells(*(cell for cell in interplay.CELLS if cell.outcome == "refused" and cell.plain))
def test_plain_edits_go_with_it(cell: interplay.Cell, pipeline: Any, picture: Image.Image) -> None:
    cell.on(pipeline)
    assert len(edit(pipeline, picture, Repulsion(strength=0.0))) == 2


def test_the_page_has_a_row_for_each() -> None:
    rows = re.findall(r"^\| (.+?) \| (works|refused) \| (.*?) \|", PAGE.read_text("utf-8"), re.MULTILINE)
    assert [(name, outcome) for name, outcome, _ in rows] == [(cell.name, cell.outcome) for cell in interplay.CELLS]
    for (_, _, tried), cell in zip(rows, interplay.CELLS, strict=True):
        if cell.needs:
            assert tried.startswith(cell.needs)
    assert f"diffusers {version('diffusers')}" in PAGE.read_text("utf-8")
