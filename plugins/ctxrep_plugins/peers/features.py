"""Methods that change what is inside the transformer."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from ctxrep_edit import Run, Strategy

if TYPE_CHECKING:
    import torch

    from ctxrep_edit import Clock


class Dave(Strategy):
    """DAVE (Kwon et al. 2026, arXiv 2606.06813): attenuates the spatial mean of the image tokens in the first steps.

    After a block h becomes alpha mean(h) + (h - mean(h)), in all parts of the guidance's batch, as in the authors' code
    (github.com/daheekwon/DAVE); strength: 1 - alpha, for which they recommend 0.5 to 0.8. They choose blocks whose
    means agree between seeds (cosine of 0.99 or more), the last ones left out. In kontext-nano, whose pictures have 64
    tokens, only the last ones agree so well; the middle third, which comes next, stands in. A source picture's own
    tokens are left alone.
    """

    name = "dave"
    summary = "DAVE: takes a share of the spatial mean from the image tokens in the first steps"
    strength = 0.5
    PART = 0.15  # of the steps

    def sample(self, run: Run) -> torch.Tensor:
        from ctxrep_edit import before_each_call

        state: dict[str, Any] = {"on": False}

        def note(clock: Clock, call: dict[str, Any]) -> None:  # holds for the step's second call too, if it has one
            first = clock.step < max(1, round(self.PART * len(run.pipeline.scheduler.timesteps)))
            state.update(on=first, generated=run.adapter.generated(call), text=run.adapter.text_length(call))

        transformer = run.adapter.transformer(run.pipeline)
        blocks = [(block, order) for name, order in run.adapter.streams.items() for block in getattr(transformer, name)]
        middle = blocks[len(blocks) // 3 : len(blocks) - len(blocks) // 3]
        with ExitStack() as hooks, before_each_call(run, note):
            for block, order in middle:
                hooks.callback(block.register_forward_hook(self._hook(run.settings.strength, state, order)).remove)
            return run.call()

    def _hook(self, strength: float, state: dict[str, Any], order: Any) -> Any:
        def hook(module: Any, args: Any, output: Any) -> Any:
            if not state["on"]:
                return output
            joint = order == "joint"
            place = 0 if joint else order.index("image")
            image = (output if joint else output[place]).clone()  # (batch, tokens, dim)
            first = state["text"] if joint else 0
            last = None if state["generated"] is None else first + state["generated"]
            made = image[:, first:last]  # (batch, generated, dim), a view
            made -= strength * made.mean(1, keepdim=True)
            return image if joint else (*output[:place], image, *output[place + 1 :])

        return hook
