"""The strategy."""

from typing import Any

import pytest
from ctxrep_edit_hello.strategy import HelloStrategy

from ctxrep_edit.testing import StrategyConformance


class TestStrategy(StrategyConformance):
    @pytest.fixture
    def strategy(self) -> Any:
        return HelloStrategy()
