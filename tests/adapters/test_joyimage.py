"""JoyImage that edits: the adapters of its two pipelines, on tiny real ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import families
import pytest
import tiny_joyimage
import torch

from ctxrep_edit import InputError, Request, adapter_for, diverse_edit
from ctxrep_edit.testing import tiny_picture


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        tiny_joyimage.small(patch)
        yield


@pytest.fixture(scope="module", params=tiny_joyimage.CLASSES, ids=lambda cls: cls.__name__)
def family(request: pytest.FixtureRequest) -> Any:
    return tiny_joyimage.pipeline(request.param)


class TestJoyImage(families.FamilyConformance):
    pass


def test_the_mask_is_the_words(family: Any) -> None:
    seen: dict[str, Any] = {}
    hooks = []
    for name in ("text_encoder", "transformer"):

        def note(module: Any, args: Any, call: dict[str, Any], name: str = name) -> None:
            seen.setdefault(name, call)

        hooks.append(getattr(family, name).register_forward_pre_hook(note, with_kwargs=True))
    adapter = adapter_for(family)
    request = Request(tiny_picture(96, 64), "add a hat", [torch.Generator()], (96, 64), 1, None)
    given = adapter.arguments(family, request)
    family(**given)
    for hook in hooks:
        hook.remove()
    mask = adapter.instruction(family, given)(seen["transformer"])
    tokens = seen["text_encoder"]["input_ids"][0, family.prompt_template_encode_start_idx["multiple_images"] :]
    assert family.tokenizer.decode(tokens[mask]) == "add a hat"


def test_a_size_that_is_none_of_its_own_is_refused(family: Any) -> None:
    asked = {"pipeline": family, "width": 80, "height": 64, "steps": 2, "preserve": "off", "progress": False}
    with pytest.raises(InputError, match=r"chooses its size by the picture's aspect, 96 x 64 here, and cannot make"):
        diverse_edit(tiny_picture(96, 64), "add a hat", 2, **asked)
