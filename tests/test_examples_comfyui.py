"""The node for ComfyUI, with a small model whose blocks are called as ComfyUI calls those that are replaced."""

from __future__ import annotations

import copy
import importlib.util
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ctxrep_edit import InputError, vendi_score

PACK = Path(__file__).parents[1] / "examples" / "comfyui"
N, WORDS, PATCHES, DIM = 3, 5, 7, 8
SIGMAS = torch.linspace(1, 0, 11)


@pytest.fixture(scope="module")
def node() -> Any:
    spec = importlib.util.spec_from_file_location(
        "ctxrep_comfyui", PACK / "__init__.py", submodule_search_locations=[str(PACK)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    (cls,) = module.NODE_CLASS_MAPPINGS.values()
    return cls()


class Flux(nn.Module):
    """Two double and two single blocks: each mixes what it is given, row by row."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.double_blocks = nn.ModuleList([nn.Linear(DIM, DIM) for _ in range(2)])
        self.single_blocks = nn.ModuleList([nn.Linear(DIM, DIM) for _ in range(2)])

    def forward(
        self, img: torch.Tensor, txt: torch.Tensor, told: Mapping[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The text after the double blocks, and everything in the end."""
        replaced = told.get("patches_replace", {}).get("dit", {})
        for number, block in enumerate(self.double_blocks):

            def double(args: Mapping[str, Any], block: nn.Module = block) -> dict[str, Any]:
                joint = torch.cat([args["txt"], args["img"]], 1)
                mixed = joint + block(joint).tanh() + joint.mean(1, keepdim=True)
                return {"txt": mixed[:, :WORDS], "img": mixed[:, WORDS:]}

            patch = replaced.get(("double_block", number), lambda args, extra: extra["original_block"](args))
            out = patch({"img": img, "txt": txt, "transformer_options": told}, {"original_block": double})
            img, txt = out["img"], out["txt"]
        joint = torch.cat([txt, img], 1)
        for number, block in enumerate(self.single_blocks):

            def single(args: Mapping[str, Any], block: nn.Module = block) -> dict[str, Any]:
                return {"img": args["img"] + block(args["img"]).tanh()}

            patch = replaced.get(("single_block", number), lambda args, extra: extra["original_block"](args))
            joint = patch({"img": joint, "transformer_options": told}, {"original_block": single})["img"]
        return txt, joint


class Model:
    """What ComfyUI hands to nodes, as far as this one asks."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.model_options = inner, {"transformer_options": {}}

    def clone(self) -> Model:
        made = Model(self.inner)
        made.model_options = copy.deepcopy(self.model_options)
        return made

    def get_model_object(self, name: str) -> Any:
        assert name == "diffusion_model"
        return self.inner

    def set_model_patch_replace(self, patch: Any, name: str, block_name: str, number: int) -> None:
        options = self.model_options["transformer_options"].setdefault("patches_replace", {})
        options.setdefault(name, {})[block_name, number] = patch

    def __call__(self, step: int = 0, chunks: tuple[int, ...] = (0,), n: int = N, **told: Any) -> Any:
        torch.manual_seed(1)
        rows = len(chunks) * n
        img, txt = torch.randn(rows, PATCHES, DIM), torch.randn(1, WORDS, DIM) + 0.1 * torch.randn(rows, WORDS, DIM)
        said = {"sigmas": SIGMAS[step : step + 1], "sample_sigmas": SIGMAS, "cond_or_uncond": list(chunks), **told}
        with torch.no_grad():
            return self.inner(img, txt, {**self.model_options["transformer_options"], **said})


def patched(node: Any, model: Model, **changes: Any) -> Model:
    how = {"strength": 2.0, "window": 0.3, "blocks": "double blocks", "keep_first": True, **changes}
    (made,) = node.patch(model, **how)
    return made


@pytest.mark.parametrize("blocks", ["double blocks", "double and single blocks"])
def test_candidates_are_moved_apart_in_the_window_only(node: Any, blocks: str) -> None:
    model = Model(Flux())
    made = patched(node, model, blocks=blocks)
    plain, apart = model(), made()
    assert vendi_score(apart[1][:, :WORDS]) > vendi_score(plain[1][:, :WORDS]) + 0.01
    assert torch.equal(apart[1][0], plain[1][0])  # the first is kept
    assert not torch.equal(apart[1][1, WORDS:], plain[1][1, WORDS:])  # and the picture hears of it
    for after in (3, 9):
        assert torch.equal(made(after)[1], model(after)[1])
    assert model.model_options["transformer_options"] == {}
    assert torch.equal(patched(node, model, blocks=blocks, strength=0.0)()[1], plain[1])
    moved = patched(node, model, blocks=blocks, keep_first=False)()
    assert not torch.equal(moved[1][0], plain[1][0])


def test_what_does_not_follow_the_prompt_stays(node: Any) -> None:
    model = Model(Flux())
    plain, apart = model(chunks=(1, 0)), patched(node, model)(chunks=(1, 0))
    assert torch.equal(apart[1][:N], plain[1][:N])
    assert not torch.equal(apart[1][N:], plain[1][N:])


def test_blocks_that_were_replaced_before_still_are(node: Any) -> None:
    model = Model(Flux())
    called: list[int] = []

    def before(args: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
        called.append(1)
        return dict(extra["original_block"](args))

    model.set_model_patch_replace(before, "dit", "double_block", 1)
    patched(node, model)()
    assert called == [1]


def test_what_cannot_be_done_is_refused(node: Any) -> None:
    model = Model(Flux())
    with pytest.raises(InputError, match="batch_size of 2 or more"):
        patched(node, model)(n=1)
    with pytest.raises(InputError, match="has no double and single blocks"):
        patched(node, Model(types.SimpleNamespace()))
    made = patched(node, model)
    del made.model_options["transformer_options"]
    made.model_options["transformer_options"] = patched(node, model).model_options["transformer_options"]
    with pytest.raises(InputError, match="says nothing of sigmas"), torch.no_grad():
        model.inner(torch.zeros(2, PATCHES, DIM), torch.zeros(2, WORDS, DIM), made.model_options["transformer_options"])
