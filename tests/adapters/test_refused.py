"""Pipelines that cannot be driven, and what is declared of those that can."""

from __future__ import annotations

import json
import re

import command_line
import diffusers
import pages
import pytest
from ctxrep_adapters import image_only
from plugging import plugin

from ctxrep_edit import BrokenPlugin, UnknownPipeline, adapter_for, register, unregister
from ctxrep_edit.cli.families import declared, tables
from ctxrep_edit.plugins import catalog

PAGE = pages.DOCS / "families.md"
OWN_OR_MODULAR = (
    "StableDiffusion3InstructPix2PixPipeline", "Flux3ModularPipeline", "Flux3DistilledModularPipeline",
    "QwenImage21ModularPipeline", "QwenImage21TurboModularPipeline",
)  # fmt: skip


@pytest.mark.parametrize("name", [name for name, _ in image_only.ctxrep_refused()])
def test_image_only_transformers_are_refused_with_the_reason(name: str) -> None:
    pipeline = object.__new__(getattr(diffusers, name))  # its class alone is looked at
    with pytest.raises(UnknownPipeline, match=rf"^{name} cannot be driven: .* image tokens alone .* contextual space"):
        adapter_for(pipeline)


def test_an_adapter_comes_before_a_refusal() -> None:
    register(plugin(ctxrep_refused=lambda: [("FluxKontextPipeline", "it is not")]), "theirs")
    try:
        assert catalog.refused()["FluxKontextPipeline"] == "it is not"
        assert adapter_for(object.__new__(diffusers.FluxKontextPipeline)).name == "flux-kontext"
    finally:
        unregister("theirs")


@pytest.mark.parametrize("wrong", [["LumenPipeline"], [("LumenPipeline", "")], 3])
def test_a_refusal_that_is_none_costs_only_its_plugin(wrong: object) -> None:
    register(plugin(ctxrep_refused=lambda: wrong), "theirs")
    try:
        with pytest.warns(BrokenPlugin, match="something else than pairs of name and reason"):
            assert "ChronoEditPipeline" in catalog.refused()
    finally:
        unregister("theirs")


def test_the_page_holds_the_tables_as_they_are_declared() -> None:
    assert tables() in PAGE.read_text("utf-8"), "Put in what `ctxrep-edit models --families` prints."


def test_every_pipeline_that_is_declared_is_there() -> None:
    for row in declared()["families"].values():
        for name in row["pipelines"]:
            assert hasattr(diffusers, name) or name in OWN_OR_MODULAR


def test_the_command_prints_them() -> None:
    assert command_line.call("models", "--families").stdout.strip() == tables()
    stated = json.loads(command_line.call("models", "--families", "--json").stdout)
    assert stated == json.loads(json.dumps(declared()))


def test_what_was_tried_on_random_weights_alone_has_a_cautious_default() -> None:
    for name, row in declared()["families"].items():
        if not row["measured_on"]:
            assert row["default"]["strength"] <= 0.5, name
            assert row["default"]["oversample"] == 1, name
    assert re.search(r"random weights", tables())
