"""The conformance kit for authors of plugins: subclass one class per kind, override one fixture, run pytest.

    from ctxrep_edit.testing import StrategyConformance

    class TestMine(StrategyConformance):
        @pytest.fixture
        def strategy(self):
            return Mine()

It needs pytest, which ctxrep-edit itself does not.
"""

from ctxrep_edit.testing.adapters import AdapterConformance
from ctxrep_edit.testing.fakes import case, edit_set, tiny_picture, tiny_pipeline
from ctxrep_edit.testing.parts import CheckConformance, EmbedderConformance, ExporterConformance
from ctxrep_edit.testing.plugin import PluginConformance
from ctxrep_edit.testing.steering import SteeringConformance
from ctxrep_edit.testing.strategies import StrategyConformance
from ctxrep_edit.testing.traces import traces

__all__ = [
    "AdapterConformance",
    "CheckConformance",
    "EmbedderConformance",
    "ExporterConformance",
    "PluginConformance",
    "SteeringConformance",
    "StrategyConformance",
    "case",
    "edit_set",
    "tiny_picture",
    "tiny_pipeline",
    "traces",
]
