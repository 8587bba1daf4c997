"""The check."""

from typing import Any

import pytest
from ctxrep_edit_hello.check import HelloCheck

from ctxrep_edit.testing import CheckConformance


class TestCheck(CheckConformance):
    @pytest.fixture
    def check(self) -> Any:
        return HelloCheck()
