"""Qwen-Image-2.1 that edits: modular pipelines, on tiny real ones."""

from __future__ import annotations

from typing import Any

import families
import pytest
import tiny_qwen21

from ctxrep_edit import InputError, diverse_edit
from ctxrep_edit.testing import tiny_picture

CALL = {"steps": 2, "seed": 0, "preserve": "off", "progress": False, "width": 96, "height": 64, **tiny_qwen21.OPTIONS}


@pytest.fixture(scope="module", params=tiny_qwen21.CLASSES, ids=lambda cls: cls.__name__)
def family(request: pytest.FixtureRequest) -> Any:
    return tiny_qwen21.pipeline(request.param)


class TestQwen21(families.FamilyConformance):
    options = {**tiny_qwen21.OPTIONS}
    tokens_of_the_source = False  # they are among the text


@pytest.mark.parametrize("scope", ["context", "paper"])
def test_scopes_of_text_are_refused_with_the_reason(family: Any, scope: str) -> None:
    with pytest.raises(InputError, match=r"never see the picture that is made.*choose one of middle, generated\."):
        diverse_edit(tiny_picture(96, 64), "add a hat", 2, pipeline=family, scope=scope, **CALL)


def test_transparency_is_laid_on_white(family: Any) -> None:
    edits = diverse_edit(tiny_picture(96, 64), "add a hat", 2, pipeline=family, **CALL)
    assert {edit.image.mode for edit in edits} == {"RGB"}


@pytest.mark.parametrize("size", [1, 2])
def test_a_pool_and_those_that_wait_go_with_the_cache(family: Any, size: int) -> None:
    families.passes_in_turn(family, size, **CALL)
