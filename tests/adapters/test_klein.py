"""The example of an adapter from outside, `examples/ctxrep_klein.py`, on the small pipeline of its page."""

from __future__ import annotations

import functools
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pages
import pytest
import tiny
import torch
from diffusers import Flux2KleinPipeline
from PIL import Image
from torch import Tensor

from ctxrep_edit import Adapter, Request, adapter_for, diverse_edit, register, unregister

EXAMPLE = pages.ROOT / "examples" / "ctxrep_klein.py"
PAGE = pages.PLUGINS / "another-family.md"
SIZE = (96, 64)
LENGTH = 64  # text tokens
WORDS = "make it night"
N = 3
edit = functools.partial(
    diverse_edit, instruction=WORDS, n=N, seed=0, steps=3, preserve="off", progress=False, width=96, height=64,
    max_sequence_length=LENGTH, text_encoder_out_layers=(0, 1, 2),
)  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Flux2KleinPipeline]:
    """Makes the small pipeline that the page shows."""
    blocks = [found[2] for found in pages.FENCE.finditer(PAGE.read_text("utf-8")) if "def small" in found[2]]
    namespace: dict[str, Any] = {}
    exec(compile(blocks[0], str(PAGE), "exec"), namespace)
    return namespace["small"]  # type: ignore[no-any-return]


@pytest.fixture
def klein() -> Any:
    """The example, registered as a plugin."""
    spec = importlib.util.spec_from_file_location("ctxrep_klein", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    register(module, "klein")
    yield module
    unregister("klein")


@pytest.fixture
def pipe(small: Callable[[], Flux2KleinPipeline]) -> Flux2KleinPipeline:
    return small()


@pytest.fixture
def photo(picture: Image.Image) -> Image.Image:
    return picture.resize(SIZE)


def alone(pipe: Any, adapter: Adapter, photo: Image.Image) -> list[Image.Image]:
    """The pipeline by itself."""
    request = Request(photo, WORDS, [torch.Generator().manual_seed(i) for i in range(N)], SIZE, 3, None)
    options = {"max_sequence_length": LENGTH, "text_encoder_out_layers": (0, 1, 2)}
    return pipe(**adapter.arguments(pipe, request), **options).images


def test_the_page_shows_it_word_for_word_and_it_is_short() -> None:
    text = EXAMPLE.read_text("utf-8")
    assert f"```python\n{text}```" in PAGE.read_text("utf-8")
    lines = len(text.splitlines())
    assert lines < 80
    assert f"takes\n{lines} lines" in PAGE.read_text("utf-8")


def test_it_edits_and_leaves_the_pipeline_as_it_was(pipe: Any, klein: Any, photo: Image.Image) -> None:
    pipe.vae.enable_slicing()
    before, left = alone(pipe, klein.Klein(), photo), tiny.traces(pipe.transformer)
    plain, moved = (edit(photo, pipeline=pipe, strength=strength) for strength in (0, 1))
    assert plain.images == before
    assert moved.images != before
    assert moved.images[0] == before[0]  # anchored
    assert moved.contextual_vendi[1] > moved.contextual_vendi[0]
    assert tiny.traces(pipe.transformer) == left
    assert alone(pipe, klein.Klein(), photo) == before


def test_without_the_plugin_the_adapter_of_its_base_class_drives_it(pipe: Any, klein: Any) -> None:
    assert adapter_for(pipe).name == "own-klein"
    unregister("klein")
    assert adapter_for(pipe).name == "flux2-klein"
    register(klein, "klein")


def outputs(block: torch.nn.Module, call: Callable[[], object]) -> list[Any]:
    """What a block returned, call by call."""
    seen: list[Any] = []
    handle = block.register_forward_hook(lambda module, args, out: seen.append(out))
    call()
    handle.remove()
    return seen


def differs(before: Tensor, after: Tensor) -> Tensor:
    """Which tokens of any picture: (tokens,)."""
    return (before != after).any(-1).any(0)


def test_only_the_chosen_tokens_of_the_instructed_call_move(pipe: Any, klein: Any, photo: Image.Image) -> None:
    """Guidance is on, in two calls a step. After the first block, before what moved has spread."""
    words = klein.Klein().instruction(pipe, {"prompt": WORDS, "max_sequence_length": LENGTH})
    assert int(words.sum()) == len(WORDS)
    double = pipe.transformer.transformer_blocks[0]
    runs = [outputs(double, functools.partial(edit, photo, pipeline=pipe, strength=s, scope="context")) for s in (0, 1)]
    (text, image), (moved_text, moved_image) = runs[0][0], runs[1][0]
    assert torch.equal(differs(text, moved_text), words)
    assert not differs(image, moved_image).any()
    for plain, moved in zip(runs[0][1], runs[1][1], strict=True):  # the second call of the step, without instruction
        assert torch.equal(plain, moved)


def test_references_and_padding_stay_put_in_joint_blocks(pipe: Any, klein: Any, photo: Image.Image) -> None:
    adapter = klein.Klein()
    adapter.scopes = {"single": klein.Scope({klein.SINGLE: klein.WORDS | {"generated"}}, "")}
    adapter.default = klein.Repulsion(scope="single")
    unregister("klein")
    register(type("Plugin", (), {"ctxrep_adapters": staticmethod(klein.hookimpl(lambda: [adapter]))})(), "klein")
    single = pipe.transformer.single_transformer_blocks[0]
    plain, moved = (outputs(single, functools.partial(edit, photo, pipeline=pipe, strength=s))[0] for s in (0, 1))
    words = adapter.instruction(pipe, {"prompt": WORDS, "max_sequence_length": LENGTH})
    made = SIZE[0] * SIZE[1] // 16  # a token is 2 x 2 latents, each of 2 x 2 pixels
    assert plain.shape[1] == LENGTH + 2 * made
    wanted = torch.cat([words, torch.ones(made, dtype=torch.bool), torch.zeros(made, dtype=torch.bool)])
    assert torch.equal(differs(plain, moved), wanted)


@pytest.mark.parametrize("words", ["user", "assistant", "im_start", "x"])
def test_words_of_the_chat_template_are_not_taken_for_the_instruction(pipe: Any, klein: Any, words: str) -> None:
    mask = klein.Klein().instruction(pipe, {"prompt": words, "max_sequence_length": LENGTH})
    start = len(pipe.tokenizer("<|im_start|>user\n")["input_ids"])
    assert mask.nonzero().flatten().tolist() == list(range(start, start + len(words)))


def test_it_imports_no_torch() -> None:
    code = (
        f"import runpy, sys; runpy.run_path({str(EXAMPLE)!r})['ctxrep_adapters'](); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
