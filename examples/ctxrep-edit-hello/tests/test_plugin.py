"""The plugin as a whole."""

import pytest

from ctxrep_edit.testing import PluginConformance


class TestPlugin(PluginConformance):
    @pytest.fixture
    def module(self) -> str:
        return "ctxrep_edit_hello"
