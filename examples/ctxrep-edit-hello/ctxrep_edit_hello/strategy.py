"""A strategy: what moves the candidates apart while they form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ctxrep_edit import Run, Strategy

if TYPE_CHECKING:
    import torch


class HelloStrategy(Strategy):
    """Away from the middle: after each step a candidate goes on from the mean of all of them.

    strength: how far, as a share of its distance from the mean, over all steps together.
    """

    name = "hello-spread"
    summary = "latents move away from their mean after each step"
    strength = 0.5

    def sample(self, run: Run) -> torch.Tensor:
        def spread(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            latents, sigmas = tensors["latents"], pipe.scheduler.sigmas
            if step + 2 >= len(sigmas):  # the last step leaves no noise to hide a push
                return tensors
            share = run.settings.strength * float(sigmas[step] - sigmas[step + 1])
            return {**tensors, "latents": latents + share * (latents - latents.mean(0, keepdim=True))}

        return run.call(after_step=spread)
