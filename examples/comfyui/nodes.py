"""The node, and what it puts into a model: after each block, the text tokens of the candidates are pushed apart.

Written against the interface that ComfyUI documents for replacing blocks of a diffusion transformer, and tested against
stand-ins with that interface; not run inside ComfyUI. Of ComfyUI it takes

- `model.clone()`, `model.get_model_object("diffusion_model")` with its `double_blocks` and `single_blocks`, and
  `model.set_model_patch_replace(patch, "dit", "double_block" or "single_block", number)`;
- that a block is then called as `patch(args, {"original_block": block})`, with "img", "txt" and "transformer_options"
  in args ("img" alone, text first, in a single block), and answers with a dictionary of the same names;
- in transformer_options: "sigmas" and "sample_sigmas", of this call and of the run, and "cond_or_uncond", one number
  for each chunk of the batch, 0 for what follows the prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from ctxrep_edit import InputError, Repulsion, repel

Patch = Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]
DOUBLE, BOTH = "double blocks", "double and single blocks"


class Apart:
    """The repulsion of one model, over `blocks` blocks. fixed: how many candidates, from the first, stay."""

    def __init__(self, settings: Repulsion, blocks: int, fixed: int) -> None:
        self.settings, self.blocks, self.fixed = settings, blocks, fixed
        self.words = 0  # text tokens in this call: single blocks have them joined to those of the picture

    def double(self, before: Patch | None) -> Patch:
        """before: what was put in place of this block already."""

        def patch(args: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
            out = _block(before, args, extra)
            self.words = out["txt"].shape[1]
            return {**out, "txt": self.moved(out["txt"], args)}

        return patch

    def single(self, before: Patch | None) -> Patch:
        def patch(args: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
            out = _block(before, args, extra)
            text = self.moved(out["img"][:, : self.words], args)
            return {**out, "img": torch.cat([text, out["img"][:, self.words :]], 1)}

        return patch

    def moved(self, text: torch.Tensor, args: Mapping[str, Any]) -> torch.Tensor:
        """text: (chunks x n, tokens, dim). Those chunks are moved that follow the prompt."""
        told = args.get("transformer_options", {})
        for name in ("sigmas", "sample_sigmas", "cond_or_uncond"):
            if name not in told:
                raise InputError(f"ComfyUI says nothing of {name} to a block that is replaced: update it.")
        share = self.settings.share(*_place(told["sigmas"], told["sample_sigmas"]))
        if not share or not self.settings.strength:
            return text
        chunks = text.chunk(len(told["cond_or_uncond"]))  # each (n, tokens, dim)
        if len(chunks[0]) < 2:
            raise InputError("One candidate has nothing to be unlike: give the latent a batch_size of 2 or more.")
        strength = self.settings.strength / self.blocks * share
        return torch.cat(
            [
                chunk if negative else repel(chunk, strength=strength, fixed=self.fixed).tokens
                for chunk, negative in zip(chunks, told["cond_or_uncond"], strict=True)
            ]
        )


def _block(before: Patch | None, args: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    return before(args, extra) if before else dict(extra["original_block"](args))


def _place(sigmas: torch.Tensor, schedule: torch.Tensor) -> tuple[int, tuple[float, float]]:
    """The step that a call belongs to, and with which noise that starts and ends, in shares of the first."""
    now, levels = float(sigmas.flatten()[0]), [float(level) for level in schedule]
    step = max((k for k, level in enumerate(levels[:-1]) if level >= now - 1e-6), default=0)
    return step, (levels[step] / levels[0], levels[step + 1] / levels[0])


class DifferentEdits:
    """Between the model and the sampler."""

    CATEGORY = "model_patches"
    FUNCTION = "patch"
    RETURN_TYPES = ("MODEL",)
    DESCRIPTION = "The candidates of a batch repel one another in contextual space, so that they are different answers."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 (ComfyUI calls it so)
        return {
            "required": {
                "model": ("MODEL",),
                "strength": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 100.0, "step": 0.1}),
                "window": ("FLOAT", {"default": 0.1, "min": 0.01, "max": 1.0, "step": 0.01}),
                "blocks": ([DOUBLE, BOTH],),
                "keep_first": ("BOOLEAN", {"default": True}),
            }
        }

    def patch(self, model: Any, strength: float, window: float, blocks: str, keep_first: bool) -> tuple[Any]:
        made = model.clone()
        inner = made.get_model_object("diffusion_model")
        if not hasattr(inner, "double_blocks") or not hasattr(inner, "single_blocks"):
            raise InputError(
                f"{type(inner).__name__} has no double and single blocks, as models of FLUX have: take one."
            )
        double = [("double_block", number) for number in range(len(inner.double_blocks))]
        single = [("single_block", number) for number in range(len(inner.single_blocks))] if blocks == BOTH else []
        settings = Repulsion(strength=strength, window=window, schedule="linear")
        apart = Apart(settings, len(double) + len(single), int(keep_first))
        there = made.model_options["transformer_options"].get("patches_replace", {}).get("dit", {})
        for kind, number in double + single:
            wrap = apart.double if kind == "double_block" else apart.single
            made.set_model_patch_replace(wrap(there.get((kind, number))), "dit", kind, number)
        return (made,)


NODE_CLASS_MAPPINGS = {"CtxrepDifferentEdits": DifferentEdits}
NODE_DISPLAY_NAME_MAPPINGS = {"CtxrepDifferentEdits": "Different edits (contextual repulsion)"}
