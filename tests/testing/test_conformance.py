"""Our own adapters and plugins pass the conformance kit that others are given."""

from typing import Any

import pytest
import tiny_sd3
from ctxrep_plugins import peers, standard
from ctxrep_plugins.peers import group
from diffusers import FluxKontextInpaintPipeline

from ctxrep_edit import EditSet
from ctxrep_edit.faithfulness.judgement import DEFAULT_CHECKS
from ctxrep_edit.plugins.catalog import CHECKS
from ctxrep_edit.sampling.steering import Between, Like
from ctxrep_edit.testing import (
    AdapterConformance,
    CheckConformance,
    EmbedderConformance,
    ExporterConformance,
    PluginConformance,
    SteeringConformance,
    StrategyConformance,
    tiny_pipeline,
)

LENGTH = {"max_sequence_length": 16}


class TestFluxKontext(AdapterConformance):
    options = LENGTH
    guided = {"negative_prompt": "add a frame", "true_cfg_scale": 2.0}

    @pytest.fixture
    def pipeline(self) -> Any:
        return tiny_pipeline()


class TestFluxKontextInpaint(TestFluxKontext):
    @pytest.fixture
    def pipeline(self) -> Any:
        return FluxKontextInpaintPipeline(**{name: part for name, part in tiny_pipeline().components.items() if part})


class _StableDiffusion3(AdapterConformance):
    options = LENGTH

    @pytest.fixture
    def pipeline(self) -> Any:
        return tiny_sd3.pipeline(self.cls)


class TestImg2Img(_StableDiffusion3):
    cls = tiny_sd3.CLASSES[0]


class TestInpaint(_StableDiffusion3):
    cls = tiny_sd3.CLASSES[1]


class TestControlNetInpaint(_StableDiffusion3):
    cls = tiny_sd3.CLASSES[2]


class TestInstruct(_StableDiffusion3):
    cls = tiny_sd3.CLASSES[3]


class TestStrategies(StrategyConformance):
    @pytest.fixture(
        params=[standard.Contextual(), *peers.ctxrep_strategies()],
        ids=lambda strategy: strategy.name,
    )
    def strategy(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.setattr(group, "CANDIDATES", 16)
        return request.param


class _Leaning(SteeringConformance):
    def test_it_hands_on_the_ranks(self) -> None:
        """What leans on edits is refused beside a group, see `worded` and `likened`."""


class TestBetween(_Leaning):
    @pytest.fixture
    def strategy(self, edits: EditSet) -> Between:
        return Between(edits[0], edits[2], [0.25, 0.5, 0.75], first=0)

    def ends(self, edits: EditSet) -> list[tuple[Between, int]]:
        ends = edits[0], edits[2]
        return [(Between(*ends, [0.0], first=0), 0), (Between(*ends, [1.0], first=2), 2)]


class TestLike(_Leaning):
    @pytest.fixture
    def strategy(self, edits: EditSet) -> Like:
        return Like(edits[1], 0.3)

    def ends(self, edits: EditSet) -> list[tuple[Like, int]]:
        return [(Like(edits[1], 0.0), 1)]


class TestChecks(CheckConformance):
    @pytest.fixture(params=DEFAULT_CHECKS)
    def check(self, request: pytest.FixtureRequest) -> Any:
        return CHECKS.get(request.param)


class TestAlexNet(EmbedderConformance):
    @pytest.fixture
    def embedder(self) -> Any:
        return standard.AlexNet()


class TestExporters(ExporterConformance):
    @pytest.fixture(
        params=[standard.Pictures(), standard.Sheet(), standard.Sidecar()], ids=lambda exporter: exporter.name
    )
    def exporter(self, request: pytest.FixtureRequest) -> Any:
        return request.param


class TestPlugins(PluginConformance):
    @pytest.fixture(
        params=[
            "ctxrep_adapters.flux_kontext",
            "ctxrep_adapters.sd3",
            "ctxrep_plugins.nano",
            "ctxrep_plugins.peers",
            "ctxrep_plugins.standard",
        ]
    )
    def module(self, request: pytest.FixtureRequest) -> Any:
        return request.param
