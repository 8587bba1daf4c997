"""What a picture that anybody made leaves behind, so that candidates can be made unlike it.

It was not made here, so its contextual tokens are those of a run that is shown it: before each step the latents are the
picture's own with as much noise as that step begins with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ctxrep_edit.imaging import to_tensor
from ctxrep_edit.plugins.adapter import Adapter
from ctxrep_edit.plugins.contracts import Run, Strategy
from ctxrep_edit.repulsion.bank import Bank, Memory
from ctxrep_edit.repulsion.clock import Clock, first_noise
from ctxrep_edit.sampling.calling import CALLBACK
from ctxrep_edit.sampling.plan import Plan
from ctxrep_edit.sampling.provenance import fingerprint
from ctxrep_edit.sampling.run import not_handed, sample


def tokens_of(plan: Plan, picture: Image.Image) -> Memory:
    """The contextual tokens of a picture of the plan's size; it takes about as long as one candidate.

    Its noise follows from the picture. Raises InputError where the adapter does not say how latents are packed,
    and PluginError for a strategy that keeps the bank to itself.
    """
    packed = packed_latents(plan.pipeline, plan.adapter, picture)
    noise = torch.Generator().manual_seed(int(fingerprint(picture)["sha256"][:12], 16))
    settings = replace(plan.settings, oversample=1, anchor=False, churn=0.0)
    arguments = {k: v for k, v in plan.arguments(plan.seeds[:1]).items() if k != CALLBACK}
    bank = Bank()
    sample(
        plan.pipeline, plan.adapter, Showing(plan.strategy, packed, noise), settings, arguments, plan.seeds[:1],
        progress=False, on_step=None, words=plan.words, bank=bank,
    )  # fmt: skip
    bank.join([0])
    if not bank.kept:
        raise not_handed(plan.strategy, "a picture leaves nothing to be unlike", "leave unlike out")
    return bank.kept[0]


@torch.no_grad()
def packed_latents(pipeline: Any, adapter: Adapter, picture: Image.Image) -> Tensor:
    """As the transformer is given latents, without noise: (1, tokens or channels, ...)."""
    return adapter.pack(pipeline, adapter.encode(pipeline, to_tensor(picture) * 2 - 1))


class Showing(Strategy):
    """A strategy, in whose run the latents are those of a picture.

    packed: its latents, (1, k, ...), which take the place of the first k tokens or channels. generator: of the noise.
    """

    name, summary, repels = "shown", "shows the transformer a picture that is there", True

    def __init__(self, strategy: Strategy, packed: Tensor, generator: torch.Generator) -> None:
        self.strategy, self.packed = strategy, packed
        self.noise = torch.randn(packed.shape, generator=generator)

    def sample(self, run: Run) -> Tensor:
        clock, shown = Clock(run.adapter, run.pipeline), dict[int, Tensor]()

        @torch.compiler.disable  # type: ignore[untyped-decorator]
        def show(module: torch.nn.Module, args: Any, call: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
            if not run.adapter.denoises(call):
                return args, dict(call)
            clock.tick(call)
            latents, step = run.adapter.latents(call), clock.step
            if step not in shown:  # both calls of a step under guidance are given the same
                shown.clear()
                shown[step] = self._noised(latents, clock.noise(step)[0] * first_noise(run.pipeline))
            return args, {name: shown[step] if value is latents else value for name, value in call.items()}

        handle = run.adapter.transformer(run.pipeline).register_forward_pre_hook(show, with_kwargs=True)
        try:
            return self.strategy.sample(run)
        finally:
            handle.remove()

    def _noised(self, latents: Tensor, level: float) -> Tensor:
        """The run's latents, (batch, k or more, c or more, ...), with the noised picture in the first k and c."""
        mixed = (1 - level) * self.packed.to(latents) + level * self.noise.to(latents)
        mixed = mixed.expand(len(latents), *mixed.shape[1:])
        k, c = mixed.shape[1:3]
        return torch.cat([torch.cat([mixed, latents[:, :k, c:]], 2), latents[:, k:]], 1)
