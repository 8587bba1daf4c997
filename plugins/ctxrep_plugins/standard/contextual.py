"""Contextual repulsion as a strategy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctxrep_edit import Run, Strategy

if TYPE_CHECKING:
    import torch


class Contextual(Strategy):
    """Dahary et al. 2026, arXiv 2603.28762."""

    name = "contextual"
    summary = "repulsion of the contextual tokens after each block, in the first timesteps"
    repels = True

    def sample(self, run: Run) -> torch.Tensor:
        from ctxrep_edit import repelled

        with repelled(
            run.pipeline,
            run.settings,
            particles=run.n,
            instruction=run.instruction,
            adapter=run.adapter,
            bank=run.bank,
            ranks=run.ranks,
        ) as attachment:
            images = run.call()
        run.still = int(run.settings.anchor and (run.ranks is None or run.ranks.rank == 0))
        run.contextual_vendi = attachment.mean_vendi
        return images
